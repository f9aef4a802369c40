"""Whatever an address holds that nobody may see is masked; all else stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.store.secrets import masked


@given(
    password=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1).map("§".__add__),
    rest=st.sampled_from(["host/nas", "host:5432/nas?sslmode=require", "[::1]/nas"]),
)
def test_whatever_a_password_holds_it_is_masked(password: str, rest: str) -> None:
    assert masked(f"postgresql+psycopg://me:{password}@{rest}") == (
        f"postgresql+psycopg://me:***@{rest}"
    )


@pytest.mark.parametrize("url", ["sqlite:///studies/nas.db", "sqlite:////data/me@work/a=b.db"])
def test_a_path_stays_as_it_is(url: str) -> None:
    assert masked(url) == url
