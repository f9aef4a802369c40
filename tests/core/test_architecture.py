"""Equal architectures have equal keys, whatever made them."""

import json
import pickle

import pytest

from nas.core.architecture import Architecture

ONE = Architecture("toy", {"width": 16, "rate": 0.1, "bias": True, "mixer": "plain"})


def test_the_key_is_of_the_content_and_never_changes() -> None:
    assert ONE.key == "9b68b267d65f7841f076a9e64de4eaaf"
    again = Architecture.from_json(json.loads(json.dumps(ONE.to_json())))
    assert again == ONE and again.key == ONE.key and hash(again) == hash(ONE)
    assert Architecture("other", ONE.choices).key != ONE.key


def test_the_choices_are_read_only() -> None:
    with pytest.raises(TypeError):
        ONE.choices["width"] = 32  # type: ignore[index]


def test_crosses_a_process_boundary() -> None:
    assert pickle.loads(pickle.dumps(ONE)) == ONE
