"""Errors say what is wrong and what to type instead, in two lines, in every process."""

import pickle

from nas.core.errors import NasError, unknown


def test_two_lines() -> None:
    error = NasError("no such thing", "try another")
    assert str(error).splitlines() == ["no such thing", "  try another"]


def test_crosses_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(NasError("problem", "hint")))
    assert (error.problem, error.hint) == ("problem", "hint")


def test_unknown_names_the_nearest_first() -> None:
    error = unknown("device", "cpuu", ["tpu", "cpu", "gpu"])
    assert "'cpuu'" in error.problem
    assert error.hint.startswith("did you mean 'cpu'")
    assert "known: cpu, gpu, tpu" in error.hint


def test_unknown_without_anything_near() -> None:
    assert unknown("device", "zzzz", ["cpu"]).hint == "known: cpu"
    assert unknown("device", "zzzz", []).hint == "known: none"


def test_a_long_list_is_cut() -> None:
    hint = unknown("preset", "q", [f"preset{i:02}" for i in range(30)]).hint
    assert hint.endswith("preset11, ...")


def test_small_and_large_letters_are_near() -> None:
    assert unknown("space", "ResNet", ["resnet", "osa"]).hint.startswith("did you mean 'resnet'")
