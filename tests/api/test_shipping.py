"""From a search to a file that runs: the README's short tour, every format, and what is caught."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import clean
import numpy as np
import onnx
import pytest
from PIL import Image

from nas import api
from nas.api import ship, verifying
from nas.cli.main import run
from nas.core.errors import NasError
from nas.core.ledger import GATE
from nas.deploy import parity
from nas.deploy.package import digest_of
from nas.store.artifacts import Artifacts
from nas.store.store import Store

SPACE = '''"""Two small networks."""
from nas import Choice, SearchSpace

def build(choices, task):
    from torch import nn
    width = choices["width"]
    return nn.Sequential(
        nn.Conv2d(task.input[0], width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * width, task.outputs))

space = SearchSpace("two", [Choice("width", [4, 8])], build, presets={"small": {"width": 4}})
'''
SEARCH = ["search", "--space", "two", "--study", "tour", "--trials", "2", "--epochs", "2",
          "--runner", "inline", "--objective", "accuracy", "--objective", "size_mb",
          "--promotion", "none", "--no-proxies", "--preset", "small", "--quiet"]  # fmt: skip


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """A folder in which two small networks were searched on the digits."""
    folder = tmp_path_factory.mktemp("tour")
    (folder / "search_spaces").mkdir()
    (folder / "search_spaces" / "two.py").write_text(SPACE)
    (folder / "temporary").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder / "temporary"))  # and so locks of its own
        patch.setattr(ship, "PROCESSES", 1)
        patch.setattr(verifying, "PROCESSES", 1)
        patch.chdir(folder)
        patch.delenv("NAS_STORAGE", raising=False)
        assert run(SEARCH) == 0
        yield folder


@pytest.fixture(scope="module")
def package(tour):
    """The first trial as ONNX, from the search's weights."""
    api.export("tour", 0, tour / "plain", searched=True)
    return tour / "plain"


@pytest.fixture
def copy(package, tmp_path):
    """A package to do harm to."""
    return Path(shutil.copytree(package, tmp_path / "package"))


def jpeg(folder: Path) -> Path:
    path = folder / "seven.jpg"
    ramp = np.linspace(0, 255, 40 * 30).reshape(40, 30).astype(np.uint8)
    Image.fromarray(np.stack([ramp, 255 - ramp, ramp], 2)).save(path)
    return path


def answered(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_the_short_tour(tour, tmp_path, capsys):
    assert run(["pick", "tour", "--constraint", "size_mb<=1", "--json"]) == 0
    picked = str(answered(capsys)["trial"])
    assert run(["train", "tour", picked, "--epochs", "2", "--runner", "inline", "--json"]) == 0
    [trained] = answered(capsys)["trained"]
    test = trained["test"]
    assert test["record"]["split"] == "test" and 0 <= test["low"] < test["value"] < test["high"]
    assert run(["export", "tour", picked, "--output", str(tmp_path / "out"), "--json"]) == 0
    exported = answered(capsys)
    assert exported["weights"] == "of nas train, 2 epochs after the search's 2"
    assert exported["accuracy"]["value"] == pytest.approx(test["value"])
    assert exported["accuracy"]["basis"] == "test images"
    packages = clean.site(tmp_path / "site", ["numpy", "pillow", "onnxruntime"])
    said = clean.run(packages, tmp_path / "out" / "infer.py", str(jpeg(tmp_path)))
    assert re.fullmatch(r".*seven\.jpg: \d \d+\.\d%  \d \d+\.\d%  \d \d+\.\d%\n", said)
    assert run(["verify", str(tmp_path / "out"), "--no-latency", "--json"]) == 0
    assert answered(capsys)["passed"]


@pytest.mark.slow
def test_training_goes_on_where_it_was_killed(tour):
    class Killing:
        def on(self, what, done, total):
            if done == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.train("tour", [1], epochs=2, precision="float32", runner="inline", watch=Killing())
    kept = list((tour / "studies" / "artifacts" / "unfinished").iterdir())
    assert len(kept) == 1
    parts = api.train("tour", [1], epochs=2, precision="float32", runner="inline")["trained"][0]
    assert not kept[0].exists()
    whole = api.train("tour", [1], epochs=2, precision="float32", runner="inline")["trained"][0]
    assert parts["weights"] == whole["weights"]  # named by content: the same bits
    assert parts["file"] == whole["file"]


@pytest.mark.slow
def test_a_teacher_from_the_front_and_one_of_the_users_own(tour, capsys):
    (tour / "mine.py").write_text(
        "from torch import nn\n"
        "def net(task):\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, task.outputs))\n"
        "def other(task):\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))\n"
    )
    for teacher in ("tour:1", "mine:net"):
        found = api.train("tour", [0], epochs=1, precision="float32", runner="inline",
                          teacher=teacher)  # fmt: skip
        assert found["trained"][0]["teacher"] == teacher
    with pytest.raises(NasError, match=r"teacher mine:other answers \(3,\), the student 10"):
        api.train("tour", [0], epochs=1, runner="inline", teacher="mine:other")
    with pytest.raises(NasError, match="not a teacher: 'nobody'"):
        api.train("tour", [0], epochs=1, runner="inline", teacher="nobody")
    with pytest.raises(NasError, match="has no trial 9"):
        api.train("tour", [9], epochs=1, runner="inline")
    with pytest.raises(NasError, match="--resources is for a cluster"):
        api.train("tour", [0], epochs=1, resources=("gpu=1",))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "runtime"),
    [({"format": "openvino"}, "openvino"), ({"format": "pt2"}, "torch"),
     ({"int8": True}, "onnxruntime"), ({"int8": True, "format": "pt2"}, "torch"),
     ({"preprocess_in_graph": True}, "onnxruntime"),
     pytest.param({"format": "pt2", "runtime": "torch:bf16"}, "torch", marks=pytest.mark.long)],
    ids=["openvino", "pt2", "int8", "int8-pt2", "images", "torch-bf16"],
)  # fmt: skip
def test_every_format_agrees_and_runs_where_only_its_runtime_is(tour, tmp_path, options, runtime):
    found = api.export("tour", 0, tmp_path / "out", searched=True, **options)
    assert found["parity"]["passed"] and found["parity"]["n"] == 256
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["runtime"]["name"] == runtime
    # a busy machine may take longer to load torch than the agent waits, and says so
    timed = card["measurements"].get("latency_ms", {"value": 0.0})["value"]
    assert (timed > 0) != ("not_timed" in found)
    packages = clean.site(tmp_path / "site", ["numpy", "pillow", runtime])
    said = clean.run(packages, tmp_path / "out" / "infer.py", str(jpeg(tmp_path)))
    assert re.match(r".*seven\.jpg: \d \d+\.\d%", said)
    checked = api.verify(tmp_path / "out", trust=True, latency=False)
    assert checked["passed"], checked
    names = {c["name"]: c["passed"] for c in checked["checks"]}
    assert names["parity"] and names["repeat"]


def test_formats_that_cannot_be(tour, tmp_path):
    with pytest.raises(NasError, match="tensorrt is not installed here") as caught:
        api.export("tour", 0, tmp_path / "out", format="tensorrt")
    assert caught.value.hint == "type pip install tensorrt, on the machine with the GPU"
    with pytest.raises(NasError, match="onnxruntime does not run the format pt2"):
        api.export("tour", 0, tmp_path / "out", format="pt2", runtime="onnxruntime")
    with pytest.raises(NasError, match="no format named 'onx'"):
        api.export("tour", 0, tmp_path / "out", format="onx")
    assert not (tmp_path / "out").exists()


def test_a_point_that_fails_the_gate_leaves_the_front_until_it_passes(tour, tmp_path, monkeypatch):
    members = [m.trial for m in api.front("tour").members]
    marked = members[0]
    with monkeypatch.context() as patch:
        patch.setattr(parity, "THRESHOLDS", {**parity.THRESHOLDS, "float32": 1e-12})
        with pytest.raises(NasError, match="differs from the trained network") as caught:
            api.export("tour", marked, tmp_path / "out", searched=True)
        with pytest.raises(NasError, match="openvino:bf16 differs from its network"):
            patch.setattr(parity, "THRESHOLDS", {**parity.THRESHOLDS, "bfloat16": 1e-12})
            api.export("tour", marked, tmp_path / "out", searched=True, format="openvino",
                       runtime="openvino:bf16")  # fmt: skip
    assert "has left the front" in caught.value.hint
    assert marked not in [m.trial for m in api.front("tour").members]
    shown = api.show("tour", marked)
    assert "differs from the trained network" in shown["error"]
    assert any(name.startswith(GATE) for name in shown["violations"])
    api.export("tour", marked, tmp_path / "out", searched=True)
    assert [m.trial for m in api.front("tour").members] == members
    assert api.show("tour", marked)["error"] is None


# --- what verify catches -------------------------------------------------------------------------


def failures(folder: Path, **options) -> dict[str, str]:
    found = api.verify(folder, latency=False, **options)
    failed = {c["name"]: c["said"] for c in found["checks"] if c["passed"] is False}
    assert found["passed"] == (not failed)
    return failed


def resealed(folder: Path, **changes) -> None:
    """Changes a card as somebody does who also knows how its digest is made."""
    card = json.loads((folder / "card.json").read_text()) | changes
    card["digest"] = digest_of(card)
    (folder / "card.json").write_text(json.dumps(card))


def hashes(folder: Path) -> dict[str, str]:
    import hashlib

    card = json.loads((folder / "card.json").read_text())
    return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in card["sha256"]}


def test_a_package_that_was_not_touched(copy):
    assert failures(copy) == {}


@pytest.mark.parametrize(
    "name", ["model.onnx", "infer.py", "CARD.md", "examples.safetensors", "card.json"]
)
def test_one_byte_is_caught_in_any_file(copy, name):
    data = bytearray((copy / name).read_bytes())
    place = data.index(b"7") if name == "card.json" else len(data) // 2
    data[place] ^= 1
    (copy / name).write_bytes(data)
    assert set(failures(copy)) == {"card" if name == "card.json" else name}


@pytest.mark.parametrize("name", ["model.onnx", "infer.py", "examples.safetensors"])
def test_truncated_and_missing_files_are_caught(copy, name):
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    assert set(failures(copy)) == {name}
    (copy / name).unlink()
    assert failures(copy) == {name: "missing"}


@pytest.mark.slow
def test_a_swapped_network_is_caught_by_its_outputs_even_under_a_card_made_for_it(tour, copy):
    other = tour / "other"
    if not other.exists():
        api.export("tour", 1, other, searched=True)
    shutil.copyfile(other / "model.onnx", copy / "model.onnx")
    assert set(failures(copy)) == {"model.onnx"}
    resealed(copy, sha256=hashes(copy))
    assert set(failures(copy)) == {"parity", "repeat"}


def test_a_link_out_of_the_folder_is_not_followed(copy, tmp_path):
    shutil.move(copy / "model.onnx", tmp_path / "elsewhere.onnx")
    (copy / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    assert failures(copy) == {"model.onnx": "not a plain file"}


def test_weights_from_outside_are_not_read(copy):
    proto = onnx.load(copy / "model.onnx")
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret"
    (copy / "model.onnx").write_bytes(proto.SerializeToString())
    resealed(copy, sha256=hashes(copy))
    [check] = [c for c in api.verify(copy, latency=False)["checks"] if c["name"] == "outputs"]
    assert check["said"] == "not run: it takes weights from files outside of the package"


def test_nothing_of_the_package_is_run(copy, tmp_path):
    (copy / "infer.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    (copy / "sitecustomize.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    resealed(copy, sha256=hashes(copy))
    found = api.verify(copy, latency=False)
    assert found["passed"]
    assert [c["said"] for c in found["checks"] if c["name"] == "other files"] == [
        "not in the card, and not looked at: sitecustomize.py"
    ]
    assert not (tmp_path / "ran").exists()


def as_pt2(folder: Path, members: dict[str, bytes]) -> None:
    """Turns a package into one of a .pt2 with these members."""
    with zipfile.ZipFile(folder / "model.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    (folder / "model.onnx").unlink()
    card = json.loads((folder / "card.json").read_text())
    sums = {k: v for k, v in card["sha256"].items() if k != "model.onnx"} | {"model.pt2": "0" * 64}
    resealed(folder, format="pt2", runtime={"name": "torch", "options": []}, sha256=sums)
    resealed(folder, sha256=hashes(folder))


def test_a_pt2_is_not_run_unless_trusted_and_no_bomb_ever(copy):
    as_pt2(copy, {"archive/data": b"0" * 60_000_000})
    [check] = [c for c in api.verify(copy, latency=False)["checks"] if c["name"] == "outputs"]
    assert check["passed"] is None and "--trust runs it all the same" in check["said"]
    checks = api.verify(copy, latency=False, trust=True)["checks"]
    [check] = [c for c in checks if c["name"] == "outputs"]
    assert check["said"] == "not run: it unpacks to 60,000,000 bytes in 1 files"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "nonsense", '{"format": "exe"}', "[" * 100_000, '{"format": 3}']
)
def test_what_is_no_card(copy, text):
    (copy / "card.json").write_text(text)
    with pytest.raises(NasError, match="is not a card"):
        api.verify(copy)


def test_cards_that_name_other_files_or_runtimes(copy):
    card = json.loads((copy / "card.json").read_text())
    resealed(copy, sha256={**card["sha256"], "../../etc/passwd": "0" * 64})
    assert "other files" in failures(copy)["files"]
    resealed(copy, sha256=card["sha256"], runtime={"name": "os", "options": []})
    with pytest.raises(NasError, match="is not a card"):
        api.verify(copy)


def test_folders_that_are_no_package(tmp_path):
    with pytest.raises(NasError, match="no folder"):
        api.verify(tmp_path / "absent")
    with pytest.raises(NasError, match=r"holds no card\.json"):
        api.verify(tmp_path)


def test_verify_ends_with_two_where_it_fails(copy, capsys):
    (copy / "CARD.md").write_text("better")
    assert run(["verify", str(copy), "--no-latency", "--json"]) == 2
    said = capsys.readouterr()
    assert not json.loads(said.out)["passed"]
    assert "is not what its card says: CARD.md" in said.err


def test_the_latency_is_held_against_the_card_under_like_conditions(copy):
    found = api.verify(copy)
    [check] = [c for c in found["checks"] if c["name"] == "latency"]
    assert check["passed"] is not False and "the card says" in check["said"]
    card = json.loads((copy / "card.json").read_text())
    timing = card["measurements"]["latency_ms"]
    quick = {**timing, "value": timing["value"] / 9, "high": timing["high"] / 9}
    quick["record"] = {**timing["record"], "sessions": []}
    resealed(copy, measurements={**card["measurements"], "latency_ms": quick})
    assert failures_of(copy, "latency")["passed"] is False
    quick["record"] = {**quick["record"], "host": "elsewhere"}
    resealed(copy, measurements={**card["measurements"], "latency_ms": quick})
    assert failures_of(copy, "latency")["passed"] is None


def failures_of(folder: Path, name: str) -> dict:
    return next(c for c in api.verify(folder)["checks"] if c["name"] == name)


def test_what_nas_train_left_is_beside_the_search(tour):
    with Store("sqlite:///studies/nas.db", read_only=True) as store:
        trials, events = store.trials("tour"), store.events("tour")
    assert all(t.state == "complete" for t in trials)
    from nas.core.finished import finished

    for number, done in finished(events).items():
        artifacts = Artifacts(tour / "studies" / "artifacts")
        assert artifacts.holds(done.weights) and artifacts.holds(done.file)
        assert trials[number].trained[0].file != done.file


def test_a_published_recipe_by_its_name(tour, capsys):
    typed = ["train", "tour", "1", "--recipe", "rsb-a3", "--epochs", "1", "--runner", "inline"]
    assert run([*typed, "--json"]) == 0
    out, said = capsys.readouterr()
    found = json.loads(out)
    assert found["recipe"] == "rsb-a3" and found["absent"]
    assert all(f"not in this recipe rsb-a3: {line}" in said for line in found["absent"])
    assert found["trained"][0]["epochs"] == 1
    with pytest.raises(NasError, match="no published recipe named 'rsb'"):
        api.train("tour", [1], recipe="rsb")
