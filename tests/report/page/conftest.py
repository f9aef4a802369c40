"""A browser to look at pages with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, installed
from example_page import findings, written

from nas.report.page.data import Findings


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if installed() is None:
        pytest.skip("no chromium here: apt-get install --no-install-recommends chromium")
    with Browser() as opened:
        yield opened


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> Callable[..., Browser]:
    """Opens the page of findings, of the example study by default; asserts it made no complaint."""

    def show(found: Findings | None = None, **options: Any) -> Browser:
        browser.open(written(found or findings(), tmp_path / "r.html"), **options)
        return browser

    return show
