from dataclasses import replace

import pytest

from nas.api import planning, searching
from nas.api.begun import decided
from nas.core.errors import NasError
from nas.core.study import Start
from nas.store.store import Store

SAID = {
    "space": "largekernel", "device": "cpu", "constraints": ("latency_ms <= 5",), "seed": 7,
    "objectives": ("accuracy", "size_mb"), "strategy": "random", "promotion": "none",
    "presets": ("convnext_a",), "epochs": 4, "sources": ("old", "older"), "data": "digits",
}  # fmt: skip
DEFAULTS = searching.search.__kwdefaults__


@pytest.fixture(scope="module")
def spec():
    found = planning.plan(
        "largekernel", "cpu", "digits", ["accuracy", "size_mb"], ["latency_ms<=5"], "random",
        "none", ["convnext_a"], None, None, 4, "one", 7, False,
    )  # fmt: skip
    # `older` was crowded out
    return replace(found, starts=(Start({}, "from old trial 3, repaired"),))


def test_the_same_command_goes_on_and_so_does_one_that_says_nothing(spec) -> None:
    decided(spec, {**DEFAULTS, **SAID}, DEFAULTS)
    decided(spec, DEFAULTS, DEFAULTS)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"space": "resnet"}, "with --space largekernel, and goes on so: not with --space resnet"),
        ({"strategy": "tpe"}, "with --strategy random, and goes on so: not with --strategy tpe"),
        ({"promotion": "hyperband"}, "--promotion none"),
        ({"device": "a100"}, "--device cpu"),
        ({"data": "folder:x"}, "--data digits"),
        ({"task": "mine:task"}, "with --task digits"),
        ({"seed": 8}, "--seed 7"),
        ({"epochs": 9}, "--epochs 4"),
        ({"precision": "bfloat16"}, "--precision float32"),
        ({"presets": ("convnext_t",)}, "--preset convnext_a"),
        ({"network": "mine:net"}, "without --network"),
        ({"weights": "w.safetensors"}, "without --weights"),
        ({"objectives": ("accuracy", "f.py:mine")},
         "with --objective accuracy --objective size_mb, and goes on so: "
         "not with --objective accuracy --objective f.py:mine"),
        ({"constraints": ("latency_ms<=1",)},
         "'latency_ms<=5', and goes on so: not with --constraint 'latency_ms<=1'"),
        ({"sources": ("nosuch",)}, "with --from old, and goes on so: not with --from nosuch"),
    ],
)  # fmt: skip
def test_what_a_study_decides_is_not_ignored(spec, other, told) -> None:
    with pytest.raises(NasError) as caught:
        decided(spec, {**DEFAULTS, **other}, DEFAULTS)
    assert told in str(caught.value) and "study 'one' was begun" in str(caught.value)
    option = told.partition("--")[2].split()[0]
    assert f"leave --{option} out; or begin another study" in str(caught.value)


def test_it_is_refused_before_anything_is_searched(tmp_path, spec) -> None:
    place = f"sqlite:///{tmp_path}/nas.db"
    with Store(place) as store:
        store.create(spec)
    with pytest.raises(NasError, match="was begun with --strategy random"):
        searching.search(resume=True, study="one", strategy="nsga2", storage=place, dry_run=True)
