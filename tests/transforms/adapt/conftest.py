from __future__ import annotations

from typing import Any

import pytest
import torch
from adapter_networks import NETWORKS, pretrained
from torch import nn


@pytest.fixture(params=sorted(NETWORKS))
def network(request: pytest.FixtureRequest) -> nn.Module:
    return pretrained(request.param)


@pytest.fixture(autouse=True)
def without_gradients() -> Any:
    with torch.no_grad():
        yield
