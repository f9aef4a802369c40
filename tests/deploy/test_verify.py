"""A stranger's package: whatever its card and files say, it is a fault told in one line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import save_file

from nas.api import verifying
from nas.core.errors import NasError
from nas.core.measurement import Measurement
from nas.core.task import Task
from nas.deploy.export import export
from nas.deploy.package import Card, Examples, digest_of, package
from nas.deploy.parity import check

LATENCY = Measurement("latency_ms", 1.234, "ms", 1.2, 1.3, 0.02, 400, "measured", "trained file")


@pytest.fixture(scope="module")
def whole(make: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package as `nas export` writes it."""
    module, folder = make(0), tmp_path_factory.mktemp("made")
    path = folder / "net.onnx"
    exported = export(module, (3, 16, 16), path)
    inputs = torch.randn(8, 3, 16, 16).numpy()
    task = Task((3, 16, 16), 10, lambda s, n: [], lambda o, t: o, lambda o, t: o)
    card = Card.of_task(
        task, "digits", title="Trial 7", exported=exported, parity=check(module, path, inputs),
        measurements=[LATENCY], origin={"study": "s"}, device={"name": "cpu"},
    )  # fmt: skip
    said = module(torch.from_numpy(inputs)).detach().numpy()
    package(folder / "net", path, card, Examples(inputs, said, said, "random inputs"))
    return folder / "net"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def resealed(folder: Path, **changes: Any) -> None:
    """Changes a card as somebody does who also knows how its digests are made."""
    card = json.loads((folder / "card.json").read_text()) | changes
    card["sha256"] |= {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in card["sha256"]
        if (folder / name).is_file()
    }
    card["digest"] = digest_of(card)
    (folder / "card.json").write_text(json.dumps(card))


def said(folder: Path) -> dict[str, str]:
    return {c["name"]: c["said"] for c in verifying.verify(folder, latency=False)["checks"]}


def test_it_passes_as_it_was_made(copy: Path) -> None:
    assert verifying.verify(copy, latency=False)["passed"]


NUMBERS = LATENCY.to_json()


@pytest.mark.parametrize(
    "changes",
    [
        {"title": None}, {"title": ["a"]}, {"device": None}, {"device": {"name": ["cpu"]}},
        {"parity": {}}, {"parity": {"relative": "none", "n": 3}}, {"parity": None},
        {"parity": {"relative": float("nan"), "n": 3}}, {"measurements": {"latency_ms": 3}},
        {"measurements": {"latency_ms": NUMBERS | {"value": "1"}}},
        {"measurements": {"latency_ms": NUMBERS | {"record": None}}},
        {"measurements": {"latency_ms": NUMBERS | {"high": float("inf")}}},
        {"precision": ["float32"]}, {"runtime": {"name": ["onnxruntime"], "options": []}},
        {"runtime": {"name": "onnxruntime", "options": {"a": 1}}}, {"input": 3},
        {"input": ["3"]}, {"sha256": ["infer.py"]}, {"format": {"a": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_a_card_of_wrong_types_is_no_card(changes: dict[str, Any], copy: Path) -> None:
    card = json.loads((copy / "card.json").read_text()) | changes
    (copy / "card.json").write_text(json.dumps(card))
    with pytest.raises(NasError, match="is not a card"):
        verifying.verify(copy)


def test_a_strangers_card_sends_nobody_to_another_host(copy: Path) -> None:
    from nas.deploy.verify import opened

    resealed(copy, device={"name": "ssh://pi@kitchen/cpu"})
    assert verifying._device(opened(copy), None).address is None


def test_what_is_printed_cannot_steer_a_terminal(copy: Path) -> None:
    resealed(copy, title="good\x1b[2J\nall checks passed")
    (copy / "b\x1b[31m").touch()
    found = verifying.verify(copy, latency=False)
    assert found["title"] == "good?[2J?all checks passed"
    assert "\x1b" not in json.dumps(found, ensure_ascii=False)


def test_a_latency_of_another_device_is_told_and_is_no_fault(copy: Path) -> None:
    from nas.deploy.verify import opened

    resealed(copy, device={"name": "a100"})
    assert verifying._device(opened(copy), None).name == "cpu"


def external(tensor: onnx.TensorProto) -> onnx.TensorProto:
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret"
    return tensor


def in_sparse(proto: onnx.ModelProto) -> None:
    sparse = proto.graph.sparse_initializer.add()
    sparse.values.CopyFrom(external(onnx.TensorProto(name="s", data_type=1, dims=[1])))


def in_function(proto: onnx.ModelProto) -> None:
    node = onnx.helper.make_node("Constant", [], ["c"])
    value = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    value.t.CopyFrom(external(onnx.TensorProto(name="t", data_type=1, dims=[1])))
    function = onnx.helper.make_function("own", "f", [], ["c"], [node], [])
    proto.functions.append(function)


def in_branch(proto: onnx.ModelProto) -> None:
    inner = onnx.helper.make_graph(
        [], "inner", [], [], [external(onnx.TensorProto(name="t", data_type=1, dims=[1]))]
    )
    proto.graph.node.append(onnx.helper.make_node("If", ["c"], ["d"], then_branch=inner))


@pytest.mark.parametrize("hide", [in_sparse, in_function, in_branch])
def test_weights_from_outside_are_found_wherever_they_hide(hide: Any, copy: Path) -> None:
    proto = onnx.load(copy / "model.onnx")
    hide(proto)
    (copy / "model.onnx").write_bytes(proto.SerializeToString())
    resealed(copy)
    assert said(copy)["outputs"] == "not run: it takes weights from files outside of the package"


@pytest.mark.parametrize(
    "tensors",
    [
        {}, {"inputs": np.zeros((0, 3, 16, 16), np.float32)},
        {"found": np.zeros((8, 5), np.float32), "expected": np.zeros((8, 5), np.float32)},
        {"found": None}, {"expected": np.zeros((8, 10), bool)},
    ],
    ids=["none", "no rows", "of other classes", "one missing", "of bits"],
)  # fmt: skip
def test_examples_that_are_none_are_a_fault(tensors: dict[str, Any], copy: Path) -> None:
    from safetensors.numpy import load_file

    known = load_file(copy / "examples.safetensors") if tensors else {}
    changed = {k: v for k, v in (known | tensors).items() if v is not None}
    save_file(changed, copy / "examples.safetensors")
    resealed(copy)
    found = verifying.verify(copy, latency=False)
    assert [c["name"] for c in found["checks"] if c["passed"] is False] == ["outputs"]


def test_examples_of_a_type_that_numpy_lacks_are_a_fault(copy: Path) -> None:
    header = json.dumps({"inputs": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}})
    data = len(header).to_bytes(8, "little") + header.encode() + bytes(2)
    (copy / "examples.safetensors").write_bytes(data)
    resealed(copy)
    found = verifying.verify(copy, latency=False)
    assert [c["name"] for c in found["checks"] if c["passed"] is False] == ["outputs"]
