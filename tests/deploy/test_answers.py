"""A network that answers from a process of its own, and those that do not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_networks import mixed

from nas.core.errors import NasError
from nas.deploy.answers import answers
from nas.hardware.agent.fingerprint import memory_bytes
from nas.hardware.runtimes import Runtime, opened

ORT = Runtime("onnxruntime")
IMAGES = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)


def looping(path: Path, body: list) -> Path:
    """A network that runs `body` on `state` for 2^62 rounds before it answers."""
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, None)
    left = helper.make_tensor_value_info("left", TensorProto.FLOAT, None)
    flag = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("go", "on")]
    count = helper.make_tensor_value_info("round", TensorProto.INT64, [])
    again = helper.make_node("Identity", ["go"], ["on"])
    inner = helper.make_graph([again, *body], "body", [count, flag[0], state], [flag[1], left])
    constants = [
        numpy_helper.from_array(np.array(2**62), "rounds"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    loop = helper.make_node("Loop", ["rounds", "yes", "input"], ["output"], body=inner)
    graph = helper.make_graph(
        [loop], "endless",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)], constants,
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(proto, path)
    return path


def test_the_answer_is_that_of_this_process(tmp_path: Path) -> None:
    path = mixed(tmp_path / "net.onnx", kernel=5)
    found = answers(path, ORT, "cpu", IMAGES)
    np.testing.assert_array_equal(found, opened(path, ORT)(IMAGES))


def test_a_refusal_is_told_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no network")
    with pytest.raises(NasError, match=r"net\.onnx") as here:
        opened(tmp_path / "net.onnx", ORT)
    with pytest.raises(NasError) as there:
        answers(tmp_path / "net.onnx", ORT, "cpu", IMAGES)
    assert (there.value.problem, there.value.hint) == (here.value.problem, here.value.hint)


def test_a_network_without_an_end_is_ended(tmp_path: Path) -> None:
    path = looping(tmp_path / "net.onnx", [helper.make_node("Relu", ["state"], ["left"])])
    with pytest.raises(NasError, match="did not answer within 6 s"):
        answers(path, ORT, "cpu", IMAGES, longest_s=6)


def widened(path: Path, entries: int) -> Path:
    """A network whose answer, and what it is made of, have so many entries an image."""
    size = numpy_helper.from_array(np.array([1, entries]), "size")
    axes = numpy_helper.from_array(np.array([1, 2, 3]), "axes")
    nodes = [
        helper.make_node("ReduceMax", ["input", "axes"], ["most"], keepdims=0),
        helper.make_node("Unsqueeze", ["most", "one"], ["column"]),
        helper.make_node("Expand", ["column", "size"], ["wide"]),
        helper.make_node("Exp", ["wide"], ["output"]),
    ]
    constants = [size, axes, numpy_helper.from_array(np.array([1]), "one")]
    shown = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16]),
        helper.make_tensor_value_info("output", TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph(nodes, "wide", shown[:1], shown[1:], constants)
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def test_a_network_that_takes_too_much_memory_ends_alone(tmp_path: Path) -> None:
    share = 4 * 2**30 / memory_bytes()  # enough for onnxruntime and a small answer
    small = widened(tmp_path / "small.onnx", 10)
    assert answers(small, ORT, "cpu", IMAGES, memory=share).shape == (4, 10)
    large = widened(tmp_path / "large.onnx", 2**28)  # 4 GiB at once
    with pytest.raises(NasError, match=r"large\.onnx|memory|ended with code"):
        answers(large, ORT, "cpu", IMAGES, memory=share)


def test_an_answer_that_would_fill_the_memory_of_who_asked_is_not_read(tmp_path: Path) -> None:
    path = widened(tmp_path / "net.onnx", 2**25)
    with pytest.raises(NasError, match="answers with 536,870,912 bytes"):
        answers(path, ORT, "cpu", IMAGES)


def test_a_process_that_ends_without_an_answer_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mixed(tmp_path / "net.onnx", kernel=5)
    ended = subprocess.CompletedProcess[bytes]([], 0)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: ended)
    with pytest.raises(NasError, match="gave no answer"):
        answers(path, ORT, "cpu", IMAGES)


def test_a_package_cannot_slip_its_own_modules_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mixed(tmp_path / "net.onnx", kernel=5)
    for name in ("nas.py", "numpy.py", "json.py"):
        (tmp_path / name).write_text("open('run', 'w').close()\nraise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    assert answers(path, ORT, "cpu", IMAGES).shape == (4, 10)
    assert not (tmp_path / "run").exists()
