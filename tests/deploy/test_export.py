import onnx
import pytest
import torch
from torch import nn

from nas.core.errors import NasError
from nas.deploy.export import examine, export, reweight
from nas.deploy.parity import check

pytestmark = pytest.mark.slow
SHAPE = (3, 16, 16)


@pytest.fixture
def inputs():
    return torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0)).numpy()


def test_the_file_says_what_the_module_says(make, tmp_path, inputs):
    module, path = make(0), tmp_path / "net.onnx"
    exported = export(module, SHAPE, path)
    assert exported.bytes == path.stat().st_size
    assert exported.opset == 20
    assert examine(path) == exported
    assert check(module, path, inputs).passed
    assert check(module, path, inputs[:1]).passed  # any batch
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_every_weight_keeps_its_name_and_value(make, tmp_path):
    module, path = make(0), tmp_path / "net.onnx"
    export(module, SHAPE, path)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    for name, value in module.named_parameters():
        kept = held[name.replace("mix", "again")]  # tied: one tensor, under its last name
        assert (kept == value.detach().numpy()).all()
    assert (held["norm.running_var"] == module.norm.running_var.numpy()).all()


def test_reweighting_is_a_fresh_export(make, tmp_path, inputs):
    one, other = make(0), make(1)
    first = export(one, SHAPE, tmp_path / "one.onnx")
    exported = reweight(tmp_path / "one.onnx", other, tmp_path / "fast.onnx")
    fresh = export(other, SHAPE, tmp_path / "slow.onnx")
    assert exported == fresh
    assert exported.fallback is None
    assert first.build == fresh.build
    assert (tmp_path / "fast.onnx").read_bytes() == (tmp_path / "slow.onnx").read_bytes()
    assert check(other, tmp_path / "fast.onnx", inputs).passed
    assert not check(one, tmp_path / "fast.onnx", inputs).passed


def test_zero_initial_biases_are_not_dropped(make, tmp_path, inputs):
    untrained, trained = make(0), make(1)
    torch.nn.init.zeros_(untrained.conv.bias)
    export(untrained, SHAPE, tmp_path / "one.onnx")
    again = reweight(tmp_path / "one.onnx", trained, tmp_path / "two.onnx")
    assert again.fallback is None
    assert check(trained, tmp_path / "two.onnx", inputs).passed


def test_equal_initial_weights_are_not_merged(tmp_path):
    """Untrained norms all hold ones and zeros; trained they differ."""

    def build():
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(1, 4), nn.GroupNorm(1, 4)).eval()

    export(build(), SHAPE, tmp_path / "one.onnx")
    trained = build()
    torch.nn.init.normal_(trained[2].weight)
    again = reweight(tmp_path / "one.onnx", trained, tmp_path / "two.onnx")
    assert again.fallback is None
    assert check(trained, tmp_path / "two.onnx", torch.randn(2, *SHAPE).numpy()).passed


@pytest.mark.parametrize("known", [{"width": 12}, {"kernel": 3}])
def test_another_network_is_exported_anew_and_says_so(make, tmp_path, inputs, known):
    first = export(make(0), SHAPE, tmp_path / "one.onnx")
    other = make(0, **known)
    exported = reweight(tmp_path / "one.onnx", other, tmp_path / "two.onnx")
    assert "conv.weight" in exported.fallback or "in the file" in exported.fallback
    assert exported.build != first.build
    assert check(other, tmp_path / "two.onnx", inputs).passed


def test_a_layer_more_is_noticed(make, tmp_path):
    module = make(0)
    export(module, SHAPE, tmp_path / "one.onnx")
    module.more = nn.Linear(2, 2)
    exported = reweight(tmp_path / "one.onnx", module, tmp_path / "two.onnx")
    assert exported.fallback == "the module's weight more.bias is not in the file"


def test_a_foreign_file_is_noticed(make, tmp_path):
    export(make(0), SHAPE, tmp_path / "one.onnx")
    proto = onnx.load(tmp_path / "one.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "one.onnx")
    exported = reweight(tmp_path / "one.onnx", make(1), tmp_path / "two.onnx")
    assert exported.fallback == "the file does not say which of its tensors are weights"


def test_nothing_of_the_machine_is_in_the_file(make, tmp_path):
    export(make(0), SHAPE, tmp_path / "net.onnx")
    assert b"site-packages" not in (tmp_path / "net.onnx").read_bytes()


def test_quiet(make, tmp_path, capfd, recwarn):
    export(make(0), SHAPE, tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_training_mode_is_refused(make, tmp_path):
    with pytest.raises(NasError, match="in training mode"):
        export(make(0).train(), SHAPE, tmp_path / "net.onnx")


def test_what_cannot_be_exported_says_why(tmp_path, capfd):
    class Looks(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(NasError, match="cannot be exported to ONNX") as caught:
        export(Looks().eval(), SHAPE, tmp_path / "net.onnx")
    line = Looks.forward.__code__.co_firstlineno + 1
    said = f"{__file__}, line {line}: `return x if x.sum() > 0 else -x` cannot be exported to ONNX"
    assert caught.value.problem.startswith(said)
    assert "do not look at values" in caught.value.hint
    assert capfd.readouterr() == ("", "")  # none of torch's own pages about it


def test_what_fails_of_something_else_is_not_told_to_look_at_no_values(tmp_path):
    with pytest.raises(NasError, match="the network cannot be exported to ONNX") as caught:
        export(nn.Conv2d(5, 8, 3).eval(), SHAPE, tmp_path / "net.onnx")
    assert "to have 5 channels" in caught.value.problem
    batch = "torch.zeros(2, 3, 16, 16)"
    assert caught.value.hint == f"try it alone: torch.export.export(net.eval(), ({batch},))"


def test_nowhere_to_write(make, tmp_path):
    with pytest.raises(NasError, match="cannot write"):
        export(make(0), SHAPE, tmp_path / "no" / "net.onnx")


def test_no_onnx_file(make, tmp_path):
    for content, problem in ((b"\x80\x04nothing", "cannot be read"), (b"", "no ONNX network")):
        (tmp_path / "one.onnx").write_bytes(content)
        with pytest.raises(NasError, match=problem):
            reweight(tmp_path / "one.onnx", make(0), tmp_path / "two.onnx")


class _Counting(nn.Module):
    def forward(self, x):
        return x.reshape(len(x), -1)


def test_a_batch_size_for_a_constant_is_refused(tmp_path):
    with pytest.raises(NasError, match="the number of examples for a constant") as caught:
        export(_Counting().eval(), SHAPE, tmp_path / "net.onnx")
    assert "x.shape[0]" in caught.value.hint
