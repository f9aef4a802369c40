"""Layers that are not quite torch's own, in a user's network: what each axis does with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.catalog import load_axis
from nas.core.axis import Axis
from nas.core.task import Task
from nas.transforms.stages import Given, Pipeline


class Standardised(nn.Conv2d):
    """A convolution that standardises its weight."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


def normed(inputs: int, outputs: int, size: int, stride: int, padding: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, size, stride, padding)
    made: nn.Module = nn.utils.parametrizations.weight_norm(conv)
    return made


class Net(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1)
        self.a, self.b = kind(16, 16, 3, 1, 1), kind(16, 16, 3, 1, 1)
        self.point = kind(16, 16, 1, 1, 0)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(F.relu(self.stem(x))))
        return self.head(F.relu(self.point(F.relu(self.b(x)))).mean((2, 3)))


AXES: dict[str, tuple[str, dict[str, Any]]] = {
    "dilation": ("dilation", {f"section.{i}.dilated": True for i in range(4)}),
    **{method: ("adapter", {"method": method})
       for method in ("lora", "ssf", "difffit", "linear", "pruning", "sara", "bottleneck")},
}  # fmt: skip


def values(axis: Axis, task: Task, chosen: dict[str, Any]) -> dict[str, Any]:
    """The first value of each of an axis's decisions, but for those that are chosen."""
    found: dict[str, Any] = {}
    decisions = axis.decisions(task) if callable(axis.decisions) else axis.decisions
    for decision in decisions:
        if all(found.get(name) in allowed for name, allowed in (decision.when or {}).items()):
            found[decision.name] = chosen.get(decision.name, decision.values[0])
    return found


@pytest.mark.parametrize("kind", [Standardised, normed])
@pytest.mark.parametrize("name", AXES)
def test_a_trained_network_answers_as_its_deployed_form(name: str, kind: Any) -> None:
    axis_name, chosen = AXES[name]
    torch.manual_seed(0)
    axis, task = load_axis(axis_name), Task((3, 12, 12), 4, None, F.cross_entropy, None)  # type: ignore[arg-type]
    examples = torch.randn(8, *task.input)
    given = Given(task, lambda n: examples[:n], 0, pretrained=True)
    pipeline = Pipeline([axis.transform(values(axis, task, chosen), task)], given)
    module, reports = pipeline.prepare(Net(kind))
    module.train()
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.02)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(module(examples), torch.arange(8) % 4).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    module.eval()
    deployed, _ = pipeline.deploy(module, task.input)
    with torch.no_grad():
        torch.testing.assert_close(deployed(examples), module(examples), rtol=1e-4, atol=1e-5)
    if kind is normed:
        skipped = {path for report in reports for path, why in report.skipped if "of other" in why}
        assert {"a", "b"} <= {path.removeprefix("network.") for path in skipped}
