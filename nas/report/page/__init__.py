"""The page of a study: one HTML file with its own style, scripts and data, and nothing fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

SCRIPTS = (
    "numbers", "study", "draw", "front", "pick", "lines", "network", "search", "telling", "devices",
    "main",
)  # fmt: skip


def page(document: Mapping[str, Any]) -> str:
    """The page of a document (`nas.report.page.data.page_document`).

    The policy in its head forbids every request, so that it cannot begin to need one unnoticed.
    """
    folder = files(__name__)
    scripts = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return Template((folder / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(document["study"]["name"]),
        style=(folder / "page.css").read_text(encoding="utf-8"),
        data=embedded(document),
        script="\n".join(scripts),
    )


def embedded(document: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element, whatever names are in it.

    >>> embedded({"name": "</script>"})
    '{"name":"\\\\u003c/script>"}'
    """
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
