"""An export without decomposition is the export with it."""

from contextlib import nullcontext

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from nas.catalog import load_space
from nas.core.task import TaskSpec
from nas.deploy import export as exporting
from nas.deploy import translation
from nas.transforms.fold import fold

TASK = TaskSpec("digits", (3, 32, 32), 10, examples=100, digest="d" * 32)


class InPlace(nn.Module):
    """Writes into its own values, and takes them from a number."""

    def forward(self, x):
        y = 2.5 - x
        y += x.mean(1, keepdim=True)
        return torch.relu_(y)


def _sampled(name, seed, size):
    torch.manual_seed(seed)
    space = load_space(name).at(TASK)
    choices = space.sample_sized(np.random.default_rng(seed), size).choices
    return fold(space.build(choices, TASK), TASK.input)[0]


def _norms():
    torch.manual_seed(3)
    norm = nn.BatchNorm2d(3, eps=1e-2)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    return nn.Sequential(norm, nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()


@pytest.fixture
def thorough(monkeypatch):
    """Counts the programs that were decomposed after all."""
    passes = pytest.importorskip(translation._PASSES)
    decompose, seen = passes.decompose_with_registry, []

    def watched(*given):
        seen.append(1)
        return decompose(*given)

    monkeypatch.setattr(passes, "decompose_with_registry", watched)
    return seen


def _exported(module, path):
    found = exporting.export(module.eval(), TASK.input, path)
    x = torch.rand(3, *TASK.input, generator=torch.Generator().manual_seed(1))
    got = onnxruntime.InferenceSession(path).run(None, {"input": x.numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(got), module(x), rtol=1e-4, atol=1e-4)
    return found


@pytest.mark.parametrize(
    "make",
    [_norms, lambda: _sampled("osa", 2, 0.2), lambda: _sampled("largekernel", 4, 0.2)],
    ids=["norms", "osa", "largekernel"],
)
def test_the_graph_is_the_one_that_decomposition_leaves(make, tmp_path, monkeypatch, thorough):
    module = make()
    quick = _exported(module, tmp_path / "quick.onnx")
    assert thorough == []
    monkeypatch.setattr(exporting, "undecomposed", nullcontext)
    slow = _exported(module, tmp_path / "slow.onnx")
    assert thorough == [1]
    assert quick.build == slow.build


class OnePiece(nn.Module):
    """Takes what it is given apart into one part."""

    def forward(self, x):
        [y] = x.chunk(1, 1)
        return y * 2


@pytest.mark.parametrize(
    "module",
    [
        InPlace(),
        OnePiece(),
        nn.BatchNorm2d(3, affine=False),
        nn.BatchNorm2d(3, track_running_stats=False),
    ],
    ids=["in place", "one piece", "no weight", "statistics of the batch"],
)
def test_what_cannot_be_passed_on_is_decomposed(module, tmp_path, thorough):
    _exported(module, tmp_path / "x.onnx")
    assert thorough == [1]


def test_another_torch_exports_as_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(translation, "_PASSES", "torch.onnx._internal.elsewhere")
    _exported(_norms(), tmp_path / "x.onnx")
