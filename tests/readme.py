"""The README as text: its commands, its Python, and which `nas` commands it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages, in order."""
    return re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", text, re.DOTALL)


def shown(text: str) -> list[list[str]]:
    """The `nas` commands in the bash blocks of a text, as words after `nas`."""
    found = []
    for block in blocks(text, "bash", "sh", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            for part in split(words):
                names = [i for i, word in enumerate(part) if Path(word).name == "nas"]
                if names and all("=" in word for word in part[: names[0]]):
                    found.append(part[names[0] + 1 :])
    return found


def split(words: list[str]) -> list[list[str]]:
    """The words of a shell line, cut at the signs that join commands."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "||", "|", ";", ">", "2>"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts
