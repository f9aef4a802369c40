import io
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from nas.core.errors import NasError
from nas.hardware.agent.engines.torch import program
from nas.hardware.runtimes import Runtime, opened, parse
from nas.hardware.runtimes.torch import write

PLAIN = Runtime("torch")


def network(width=8, seed=0, kernel=3):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, kernel, padding=kernel // 2), nn.GELU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4),
    ).eval()  # fmt: skip


def images(count):
    return np.random.default_rng(0).standard_normal((count, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "tolerance"),
    [("torch", 1e-6), ("torch:channels_last", 1e-6), ("torch:channels_last+bf16", 2e-2)],
)
def test_a_program_answers_as_its_module_for_any_batch(tmp_path, text, tolerance):
    engine, module = parse(text, "cpu"), network()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    write(module, (3, 8, 8), tmp_path / "n.pt2", engine)
    run = opened(tmp_path / "n.pt2", engine)
    for count in (1, 5, 70):
        expected = module(torch.from_numpy(images(count))).detach().numpy()
        found = run(images(count))
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_the_weights_lie_in_the_layout_and_type_asked_for(tmp_path):
    engine = parse("torch:channels_last+bf16", "cpu")
    write(network(), (3, 8, 8), tmp_path / "n.pt2", engine)
    state = torch.export.load(tmp_path / "n.pt2").state_dict
    weight = state["module.0.weight"]
    assert weight.dtype == torch.bfloat16
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_the_build_names_the_graph_and_not_the_weights(tmp_path):
    def built(module, text="torch"):
        return write(module, (3, 8, 8), tmp_path / "n.pt2", parse(text, "cpu")).build

    one = built(network())
    assert one == built(network(seed=1))
    others = {built(network(width=16)), built(network(kernel=5)), built(network(), "torch:bf16")}
    others |= {built(network(), "torch:channels_last"), built(network().append(nn.ReLU()))}
    assert len(others) == 5 and one not in others


def test_equal_networks_give_equal_bytes_that_name_no_place(tmp_path):
    for name in ("a.pt2", "b.pt2"):
        write(network(), (3, 8, 8), tmp_path / name, PLAIN)
    one, two = ((tmp_path / n).read_bytes() for n in ("a.pt2", "b.pt2"))
    assert one == two
    with zipfile.ZipFile(io.BytesIO(one)) as archive:
        texts = b"".join(archive.read(n) for n in archive.namelist() if n.endswith(".json"))
    assert b".py" not in texts


def test_a_file_with_a_pickle_is_refused(tmp_path):
    example = (torch.zeros(1, 3, 8, 8),)
    torch.export.save(torch.export.export(network(), example), tmp_path / "n.pt2")
    with pytest.raises(ValueError, match="is a pickle"):
        program(str(tmp_path / "n.pt2"), "cpu")
    with pytest.raises(NasError, match="is a pickle"):
        opened(tmp_path / "n.pt2", PLAIN)
    (tmp_path / "n.onnx").write_bytes(b"another format")
    with pytest.raises(ValueError, match=r"programs that torch.export wrote \(.pt2\)"):
        program(str(tmp_path / "n.onnx"), "cpu")


def test_what_cannot_be_traced_says_so(tmp_path, capfd):
    class Looks(nn.Module):
        def forward(self, inputs):
            return inputs * 2 if inputs.sum() > 0 else inputs

    with pytest.raises(NasError) as refused:
        write(Looks(), (3, 8, 8), tmp_path / "n.pt2", PLAIN)
    line = Looks.forward.__code__.co_firstlineno + 1
    assert refused.value.problem.startswith(f"{__file__}, line {line}: `return inputs * 2 if")
    assert "cannot be a torch program in float32" in refused.value.problem
    assert capfd.readouterr() == ("", "")
    with pytest.raises(NasError, match="layout of images"):
        write(nn.Linear(4, 4).eval(), (4,), tmp_path / "n.pt2", parse("torch:channels_last", "cpu"))
    with pytest.raises(NasError, match="cannot write"):
        write(network(), (3, 8, 8), tmp_path / "none" / "n.pt2", PLAIN)


def test_rows_of_another_shape_are_refused(tmp_path):
    write(network(), (3, 8, 8), tmp_path / "n.pt2", PLAIN)
    with pytest.raises(NasError, match=r"n\.pt2 does not run under torch"):
        opened(tmp_path / "n.pt2", PLAIN)(np.zeros((2, 4, 8, 8), np.float32))


def test_scoring_rounds_as_timing_does_and_leaves_training_as_it_was(tmp_path, monkeypatch):
    seen = []

    def noted(path, kind):
        return lambda given: (seen.append(flags()), given)[1], None

    def flags():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    monkeypatch.setattr("nas.hardware.agent.engines.torch.program", noted)
    before = flags()
    for engine in (PLAIN, Runtime("torch", ("tf32",))):
        opened(tmp_path / "n.pt2", engine)(images(1))
        assert flags() == before
    assert seen == [(False, False), (True, True)]
