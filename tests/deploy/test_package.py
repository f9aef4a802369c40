import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from nas.core.errors import NasError
from nas.core.measurement import Measurement
from nas.core.task import Task
from nas.deploy import infer
from nas.deploy.export import export
from nas.deploy.formats import preprocessing
from nas.deploy.package import Card, digest_of, package
from nas.deploy.parity import check
from nas.training.pixels import squared

ACCURACY = Measurement("accuracy", 97.5, "%", 96.1, 98.2, 0.6, 162, "measured", "trained file")
LATENCY = Measurement("latency_ms", 1.234, "ms", 1.2, 1.3, 0.02, 400, "measured", "trained file")
NORMALISATION = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}


@pytest.fixture(scope="module")
def network(make, tmp_path_factory):
    """A module, its file, and what goes into its card."""
    module, path = make(0), tmp_path_factory.mktemp("made") / "net.onnx"
    exported = export(module, (3, 16, 16), path)
    inputs = torch.randn(8, 3, 16, 16).numpy()
    task = Task((3, 16, 16), 10, lambda s, n: [], lambda o, t: o, lambda o, t: o,
                classes=tuple("abcdefghij"), normalisation=NORMALISATION, digest="d1")  # fmt: skip
    card = Card.of_task(
        task, "folder:pets", title="Trial 7 of pets", exported=exported,
        parity=check(module, path, inputs), measurements=[ACCURACY, LATENCY],
        origin={"study": "pets", "trial": 7, "choices": {"width": 8}}, device={"name": "cpu"},
    )  # fmt: skip
    return module, path, card


def test_what_is_in_it(network, tmp_path):
    _, path, card = network
    document = package(tmp_path / "out" / "net", path, card)
    folder = tmp_path / "out" / "net"
    names = {"model.onnx", "card.json", "infer.py", "CARD.md"}
    assert {p.name for p in folder.iterdir()} == names
    assert os.listdir(folder.parent) == ["net"]
    assert json.loads((folder / "card.json").read_text()) == document
    for name, digest in document["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert document["bytes"]["model.onnx"] == card.exported.bytes
    assert document["measurements"]["accuracy"]["low"] == 96.1
    assert document["preprocessing"]["mean"] == [0.5, 0.4, 0.3]


def test_the_card_for_people_has_the_numbers(network, tmp_path):
    _, path, card = network
    document = package(tmp_path / "net", path, card)
    text = (tmp_path / "net" / "CARD.md").read_text()
    assert "| accuracy | 97.5 | 96.1 to 98.2 | % | measured, trained file, n=162 |" in text
    assert "| latency_ms | 1.234 | 1.2 to 1.3 | ms | measured, trained file, n=400 |" in text
    assert f"{document['sha256']['model.onnx']}  model.onnx" in text
    assert "python infer.py IMAGE.png" in text
    assert 'choices: {"width": 8}' in text
    assert str(tmp_path) not in text


def test_the_card_says_of_a_latency_that_it_never_settled(network, tmp_path):
    _, path, card = network
    record = {"converged": False, "unsettled": ["an anchor drifted by 7.0%"]}
    shaken = [ACCURACY, replace(LATENCY, record=record)]
    package(tmp_path / "net", path, replace(card, measurements=shaken))
    text = (tmp_path / "net" / "CARD.md").read_text()
    assert "not converged (an anchor drifted by 7.0%)." in text


def test_the_python_of_the_card_runs(network, tmp_path):
    module, path, card = network
    package(tmp_path / "net", path, card)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    image.save(tmp_path / "net" / "IMAGE.png")
    text = (tmp_path / "net" / "CARD.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ran = _python(tmp_path / "net", "-c", code)
    pixels = squared(image, 16).astype(np.float32) / 255
    inputs = (pixels - np.float32(NORMALISATION["mean"])) / np.float32(NORMALISATION["std"])
    output = module(torch.from_numpy(inputs).permute(2, 0, 1).unsqueeze(0))
    assert ran.strip() == "abcdefghij"[int(output.argmax())]


def _python(folder: Path, *arguments: str) -> str:
    """Runs Python in a packaged folder, without this project on its path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_infer_on_images_and_arrays(network, tmp_path):
    module, path, card = network
    package(tmp_path / "net", path, card)
    Image.new("L", (40, 40), 128).save(tmp_path / "grey.png")
    assert re.match(r".*grey\.png: [a-j] \d+\.\d%  [a-j]", _python(
        tmp_path / "net", "infer.py", str(tmp_path / "grey.png")))  # fmt: skip
    inputs = torch.randn(3, 3, 16, 16)
    np.save(tmp_path / "x.npy", inputs.numpy())
    said = json.loads(_python(tmp_path / "net", "infer.py", str(tmp_path / "x.npy")))
    assert np.allclose(said, module(inputs).detach().numpy(), atol=1e-4)


def test_infer_needs_numpy_pillow_and_only_then_the_runtime():
    source = Path(infer.__file__).read_text()
    imported = set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE))
    own = {"json", "struct", "sys", "warnings", "zlib", "collections", "pathlib", "typing"}
    assert imported == own | {"numpy", "PIL"}


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "PA", "CMYK", "1", "I;16", "I"])
@pytest.mark.parametrize("size", [(16, 16), (30, 20), (9, 50)])
def test_infer_prepares_an_image_as_training_did(mode, size):
    rng = np.random.default_rng(0)
    if mode.startswith("I"):
        kind = np.uint16 if mode == "I;16" else np.int32
        image = Image.fromarray(rng.integers(0, 2**16, size).astype(kind))
        assert image.mode == mode
    else:
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).convert(mode)
    card = {"preprocessing": {"size": 16, "mean": [0.0] * 3, "std": [1.0] * 3}}
    pixels = infer.prepared(image, card) * 255
    assert np.allclose(pixels.transpose(1, 2, 0), squared(image, 16), atol=1e-3)


CARD = {"preprocessing": {"size": 16, "mean": [0.0] * 3, "std": [1.0] * 3}}


def test_a_photo_is_turned_as_its_camera_was_held(tmp_path):
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn it a quarter to the right
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as photo:
        assert photo.size == (30, 20)
        assert np.array_equal(infer.prepared(photo, CARD), infer.prepared(upright, CARD))
        assert np.array_equal(squared(photo, 16), squared(upright, 16))
    upright.save(tmp_path / "odd.png", exif=b"Exif\0\0no such thing")
    with Image.open(tmp_path / "odd.png") as odd:
        assert np.array_equal(infer.prepared(odd, CARD), infer.prepared(upright, CARD))


@pytest.mark.parametrize("values", [np.float32([[0.5, 1.0]]), np.int32([[0, 1 << 20]])])
def test_numbers_of_which_nobody_says_what_white_is_are_refused(values):
    image = Image.fromarray(values)
    for prepare in (lambda: infer.prepared(image, CARD), lambda: squared(image, 16)):
        with pytest.raises(ValueError, match="save it with 8 or 16"):
            prepare()


def test_broken_files_are_named_and_the_others_are_answered(network, tmp_path):
    package(tmp_path / "net", network[1], network[2])
    Image.new("CMYK", (50, 20), (9, 8, 7, 6)).save(tmp_path / "good.jpg")
    photo = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "torn.jpg").write_bytes(photo[: len(photo) // 2])
    (tmp_path / "no.jpg").write_bytes(b"nothing of the kind")
    np.save(tmp_path / "other.npy", np.zeros((2, 3, 8, 8)))
    names = ["torn.jpg", "no.jpg", "absent.jpg", "other.npy", "good.jpg"]
    command = [sys.executable, "infer.py", *(str(tmp_path / name) for name in names)]
    ran = subprocess.run(command, cwd=tmp_path / "net", capture_output=True, text=True, check=False)
    assert ran.returncode == 1 and re.fullmatch(r".*good\.jpg: [a-j] .*\n", ran.stdout)
    assert ran.stderr.count("cannot be read: ") == 4 and "Traceback" not in ran.stderr
    assert "it is (2, 3, 8, 8), the network takes (N, 3, 16, 16)" in ran.stderr
    assert ran.stderr.endswith("4 of 5 could not be read\n")


def test_infer_decodes_no_image_of_any_size():
    image = Image.new("1", (10_000, 6_000))
    with pytest.raises(ValueError, match="10000x6000 pixels; 50,000,000 at most"):
        infer.prepared(image, {"preprocessing": {"size": 16}})


def test_a_card_says_of_itself_whether_it_was_changed(network, tmp_path):
    _, path, card = network
    document = package(tmp_path / "net", path, card)
    assert digest_of(document) == document["digest"]
    assert digest_of({**document, "title": "another"}) != document["digest"]


def test_preprocessing_inside_the_graph_is_what_infer_does_outside(network, tmp_path):
    module, path, card = network
    mean, std = (list(NORMALISATION[k]) for k in ("mean", "std"))
    preprocessing(path, tmp_path / "images.onnx", mean, std, card.classes)
    facts = {p.key: p.value for p in onnx.load(tmp_path / "images.onnx").metadata_props}
    assert facts["size"] == "16" and json.loads(facts["classes"]) == list("abcdefghij")
    folder = tmp_path / "net"
    document = package(folder, tmp_path / "images.onnx", replace(card, in_graph=True))
    assert "uint8 of shape (B, 16, 16, 3)" in (folder / "CARD.md").read_text()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    loaded, about = infer.load(folder)
    found = infer.run(loaded, infer.prepared(image, about)[None])
    outside = {**document, "preprocessing": {**document["preprocessing"], "in_graph": False}}
    inputs = torch.from_numpy(infer.prepared(image, outside)[None])
    assert np.allclose(found, module(inputs).detach().numpy(), atol=1e-4)
    grey = tmp_path / "grey.onnx"
    export(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval(), (1, 4, 4), grey)
    with pytest.raises(NasError, match="takes 1 channels, an image has 3"):
        preprocessing(grey, tmp_path / "no.onnx", mean, std)


def test_networks_of_no_images(network, tmp_path):
    _, path, card = network
    package(tmp_path / "net", path, replace(card, normalisation=None, classes=()))
    assert "INPUTS.npy" in (tmp_path / "net" / "CARD.md").read_text()


def test_a_folder_that_holds_something_is_left_alone(network, tmp_path):
    _, path, card = network
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(NasError, match="not empty"):
        package(tmp_path, path, card)
    (tmp_path / "empty").mkdir()
    package(tmp_path / "empty", path, card)
    with pytest.raises(NasError, match="not empty"):
        package(tmp_path / "empty", path, card)


def test_a_file_that_differs_is_not_shipped(network, tmp_path):
    _, path, card = network
    with pytest.raises(NasError, match="differs from the trained network"):
        package(tmp_path / "net", path, replace(card, parity=replace(card.parity, passed=False)))
    assert not (tmp_path / "net").exists()


def test_a_failure_leaves_nothing(network, tmp_path):
    _, path, card = network
    with pytest.raises(NasError, match="cannot write"):
        package(tmp_path / "out", tmp_path / "absent.onnx", card)
    assert not list(tmp_path.glob("*out*"))
    (tmp_path / "file").write_text("")
    with pytest.raises(NasError, match="cannot write"):
        package(tmp_path / "file" / "net", path, card)
