from __future__ import annotations

import pytest
import torch
from adapter_networks import SHAPE, pretrained
from torch import Tensor, nn

from nas.core.errors import NasError
from nas.transforms.adapt.seen import look


def test_a_network_of_convolutions() -> None:
    seen = look(pretrained("convolutions"), SHAPE)
    assert seen.head == "7"
    assert seen.ends == ("1.norm2", "2.norm2", "3.norm2")  # never the shortcut of block 2
    assert [block.path for block in seen.blocks] == ["1", "2", "3"]
    sites = {layer.path: layer.site for layer in seen.layers}
    assert sites["1.conv1"] == sites["4"] == "mixing"
    assert sites["2.shortcut"] == "channels" and sites["1.norm1"] == "norms"
    assert seen.pairs == tuple((f"{i}.conv1", (f"{i}.norm1",), f"{i}.conv2") for i in (1, 2, 3))


@pytest.mark.parametrize(("name", "end"), [("fused", "attn.proj"), ("torch", "attn.inner")])
def test_a_transformer(name: str, end: str) -> None:
    seen = look(pretrained(name), SHAPE)
    assert seen.head == "head"
    assert seen.ends == tuple(f"blocks.{i}.{e}" for i in range(3) for e in (end, "mlp.2"))
    assert [block.path for block in seen.blocks] == [f"blocks.{i}" for i in range(3)]
    assert seen.blocks[0].output == (1, 17, 16) and seen.blocks[0].whole
    assert seen.pairs == tuple((f"blocks.{i}.mlp.0", (), f"blocks.{i}.mlp.2") for i in range(3))
    parts = {layer.part for layer in seen.layers if layer.site == "mixing"}
    assert "fused" in parts


def test_sections_are_quarters_of_the_multiply_adds() -> None:
    seen = look(pretrained("convolutions"), SHAPE)
    total, done = sum(layer.macs for layer in seen.layers), 0.0
    places = [16 * 16, 16 * 16, 16 * 16]
    # 8 of 3 x 3 x 3, twice 8 of 8 x 3 x 3, in 16 x 16 places
    macs = [layer.macs for layer in seen.layers if layer.site != "norms"]
    assert macs[:3] == [n * p for n, p in zip([216, 576, 576], places, strict=True)]
    for layer in seen.layers:
        if layer.site != "norms":
            assert layer.section == min(3, int(4 * (done + layer.macs / 2) / total))
            done += layer.macs


def test_what_is_read_and_not_called_is_named() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Linear(768, 8, bias=False)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(nn.functional.linear(x.flatten(1), self.table.weight))

    assert look(Tied(), SHAPE).uncalled == ("table",)


def test_looking_changes_nothing() -> None:
    module = pretrained("convolutions").train()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    look(module, SHAPE)
    assert module.training and module[1].norm1.training
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_a_network_that_ends_in_no_layer_is_refused() -> None:
    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :5]

    with pytest.raises(NasError, match="no linear layer or convolution right before"):
        look(Bare(), SHAPE)


def test_the_vision_transformer_of_transformers() -> None:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    inner = ViTForImageClassification(
        ViTConfig(**sizes, intermediate_size=32, image_size=16, patch_size=8, num_labels=5)
    )

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.vit(x).logits

    seen = look(Logits(), SHAPE)
    assert seen.head == "vit.classifier"
    assert len(seen.blocks) == 2 and len(seen.ends) == 4 and len(seen.pairs) == 2
    parts = [layer.part for layer in seen.layers if layer.site == "mixing"]
    assert sorted(p for p in parts if p) == ["key"] * 2 + ["query"] * 2 + ["value"] * 2
