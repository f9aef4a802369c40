import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.errors import NasError
from nas.training.recipe import Recipe, brief


def test_round_trip():
    recipe = Recipe(batch=48, flip=False, rotate=10.0)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_unknown_part():
    with pytest.raises(NasError, match="no part of a recipe named 'rat'") as error:
        Recipe.from_json({"rat": 1})
    assert "'rate'" in error.value.hint


@pytest.mark.parametrize(
    "part", [{"batch": 0}, {"rate": -1.0}, {"warmup": 1.5}, {"rate": float("nan")}, {"batch": "32"}]
)
def test_impossible_recipes(part):
    with pytest.raises(NasError, match="no such recipe"):
        Recipe(**part)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_rate_stays_between_zero_and_its_highest(warmup, share):
    assert 0 <= Recipe(rate=2.0, warmup=warmup).rate_at(share) <= 2.0 + 1e-9


def test_the_rate_rises_then_falls_to_zero():
    rates = [Recipe(rate=1.0, warmup=0.2).rate_at(i / 100) for i in range(101)]
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert (rates[20], rates[100]) == (1.0, 0.0)


def test_few_images_make_small_batches():
    sizes = [brief("folder:x", n).batch for n in (1, 100, 1797, 3000, 10**4, 10**6)]
    assert sizes == [16, 16, 16, 32, 64, 64]
