import pytest

from nas.core.errors import NasError
from nas.hardware import runtimes
from nas.hardware.device import parse as device
from nas.hardware.runtimes import Runtime, parse


def test_options_stand_in_one_order():
    one, two = (
        parse(t, "cuda") for t in ("torch:graphs+compiled+bf16", "torch:bf16+compiled+graphs")
    )
    assert one == two and str(one) == "torch:bf16+compiled+graphs"
    assert parse(str(one), "cuda") == one


def test_what_a_runtime_takes_and_computes_in():
    assert (parse("torch", "cpu").suffix, parse("openvino", "cpu").suffix) == (".pt2", ".onnx")
    found = parse("torch:channels_last+bf16", "cpu")
    assert (found.precision, found.layout) == ("bfloat16", "channels_last")
    assert parse("tensorrt:fp16", "cuda").precision == "float16"
    plain = parse("onnxruntime", "cpu")
    assert (plain.precision, plain.layout) == ("float32", "nchw")
    assert parse("torch:compiled", "cpu").load_s > plain.load_s


@pytest.mark.parametrize(
    ("text", "kind", "problem", "hint"),
    [
        ("torhc", "cpu", "no runtime named 'torhc'", "did you mean 'torch'"),
        ("torch:compile", "cpu", "no option of torch named 'compile'", "'compiled'"),
        ("torch:", "cpu", "no option of torch named ''", "known: bf16"),
        ("onnxruntime:bf16", "cpu", "onnxruntime has no options", "type onnxruntime"),
        ("torch:compiled+graphs", "cpu", "graphs records launches of a GPU", "type torch:compiled"),
        ("torch:fp16", "cpu", "float16, which processors only store", "type torch"),
        ("torch:tf32", "cpu", "NVIDIA's tensor cores", "type torch"),
        ("torch:bf16+fp16", "cuda", "names 2 precisions", "torch:bf16"),
        ("tensorrt", "cpu", "tensorrt runs on cuda here, not on cpu", "openvino"),
        ("openvino", "cuda", "openvino runs on cpu here, not on cuda", "torch or tensorrt"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(text, kind, problem, hint):
    with pytest.raises(NasError) as refused:
        parse(text, kind)
    assert problem in refused.value.problem and hint in refused.value.hint


def test_a_profile_names_its_default_and_a_person_another():
    assert str(device('kind = "cuda"', "card").engine) == "torch:compiled"
    assert str(device('kind = "cpu"', "cpu").engine) == "onnxruntime"
    named = device('kind = "cpu"\nruntime = "torch:bf16"', "cpu")
    assert (named.runtime, named.options) == ("torch", ("bf16",))
    assert str(named.under("openvino").engine) == "openvino" and named.under(None) == named
    with pytest.raises(NasError, match=r"mine\.toml: no option of torch named 'bf61'"):
        device('kind = "cpu"\nruntime = "torch:bf61"', "mine")


def test_what_is_not_installed_says_the_line_that_adds_it(monkeypatch):
    monkeypatch.setattr(runtimes, "version", lambda name: None)
    with pytest.raises(NasError) as refused:
        runtimes.require(Runtime("openvino"), "cpu")
    assert "openvino is not installed" in str(refused.value)
    assert "pip install openvino" in refused.value.hint
    assert set(runtimes.installed()) == set(runtimes.KINDS)
    assert set(runtimes.installed().values()) == {None}


def test_compiling_needs_a_compiler(monkeypatch):
    runtimes.require(Runtime("torch", ("bf16",)), "cpu")
    monkeypatch.setattr(runtimes, "compiler", lambda: None)
    with pytest.raises(NasError) as refused:
        runtimes.require(Runtime("torch", ("bf16", "compiled")), "cpu")
    assert "needs a C++ compiler" in refused.value.problem
    assert "--runtime torch:bf16" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "flags", "emulated"),
    [
        ("torch:bf16", {"avx2"}, True),
        ("torch:bf16", {"avx2", "avx512_bf16"}, False),
        ("openvino:bf16", {"amx_bf16"}, False),
        ("torch", {"avx2"}, False),
    ],
)
def test_a_precision_without_instructions_is_emulated(text, flags, emulated):
    assert runtimes.emulated(parse(text, "cpu"), "cpu", frozenset(flags)) is emulated
