import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nas.core.errors import NasError
from nas.training import checkpoint
from nas.training.checkpoint import load_weights


def _trained(steps=2):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    module.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.randn(4, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    return module, optimizer


def test_everything_comes_back(tmp_path):
    module, optimizer = _trained()
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, module, optimizer, {"epochs": 2})
    fresh, state = _trained(steps=0)
    checkpoint.restore(path, fresh, state)
    assert checkpoint.about(path) == {"epochs": 2}
    for name, value in module.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    for one, other in zip(module.parameters(), fresh.parameters(), strict=True):
        for part, value in optimizer.state[one].items():
            assert torch.equal(state.state[other][part], value)


def test_tied_weights(tmp_path):
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, module, torch.optim.AdamW(module.parameters()), {})
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other[1].weight = other[0].weight
    checkpoint.restore(path, other)
    assert torch.equal(other[1].weight, module[0].weight)


def test_another_network(tmp_path):
    module, optimizer = _trained()
    checkpoint.save(tmp_path / "c.safetensors", module, optimizer, {})
    with pytest.raises(NasError, match="is of another network"):
        checkpoint.restore(tmp_path / "c.safetensors", nn.Linear(2, 2))


@pytest.mark.parametrize("content", [b"", b"\x80\x04 a pickle", b"\xff" * 100])
def test_no_checkpoint(tmp_path, content):
    (tmp_path / "c.safetensors").write_bytes(content)
    with pytest.raises(NasError, match="not a checkpoint"):
        checkpoint.about(tmp_path / "c.safetensors")
    with pytest.raises(NasError, match="not a checkpoint"):
        checkpoint.restore(tmp_path / "c.safetensors", nn.Linear(2, 2))


def test_nowhere_to_write(tmp_path):
    module, optimizer = _trained()
    with pytest.raises(NasError, match="cannot be written"):
        checkpoint.save(tmp_path / "no" / "c.safetensors", module, optimizer, {})


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())


def test_weights_of_anyone_are_taken_by_name(tmp_path):
    one, other = small(), small()
    kept = {k: v for k, v in one.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(kept, tmp_path / "w.safetensors")
    load_weights(tmp_path / "w.safetensors", other)
    for name, value in kept.items():
        assert torch.equal(other.state_dict()[name], value)


def test_a_checkpoint_of_ours_is_weights_too(tmp_path):
    one, other = small(), small()
    optimizer = torch.optim.AdamW(one.parameters())
    checkpoint.save(tmp_path / "c.safetensors", one, optimizer, {})
    load_weights(tmp_path / "c.safetensors", other)
    assert torch.equal(one[0].weight, other[0].weight)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("0.bias"), "0.bias is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is not in the network"),
        (lambda s: s.update({"0.bias": torch.zeros(5)}), r"0.bias is \(5,\), not \(4,\)"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(tmp_path, change, said):
    state = small().state_dict()
    change(state)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(NasError, match=said):
        load_weights(tmp_path / "w.safetensors", small())


def test_what_is_no_safetensors_file_is_said(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"pickle")
    with pytest.raises(NasError, match="cannot read the weights") as caught:
        load_weights(tmp_path / "w.safetensors", small())
    assert "save_file" in caught.value.hint


def test_of_a_task_with_other_outputs_all_but_the_head_is_taken(tmp_path):
    one, other = (
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 7)),
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)),
    )
    save_file(one.state_dict(), tmp_path / "w.safetensors")
    head = other[1].weight.clone()
    with pytest.raises(NasError, match=r"1.weight is \(7, 4\), not \(2, 4\)"):
        load_weights(tmp_path / "w.safetensors", other)
    load_weights(tmp_path / "w.safetensors", other, head=lambda: "1")
    assert torch.equal(other[0].weight, one[0].weight) and torch.equal(other[1].weight, head)
    with pytest.raises(NasError, match=r"1\.weight"):  # nothing but the head may be of another task
        load_weights(tmp_path / "w.safetensors", other, head=lambda: "0")
