"""An environment that has nothing but a few packages and what those need: as pip would make it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def closure(names: list[str]) -> set[str]:
    """The distributions of these names and all that they need here, extras left out."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # of another platform or Python
        if name not in found:
            found.add(name)
            waiting += [re.split(r"[ ;<>=!~\[(]", n)[0] for n in needs if "extra ==" not in n]
    return found


def site(folder: Path, names: list[str]) -> Path:
    """A folder with links to the files of the packages and of all that they need."""
    folder.mkdir(parents=True)
    for name in closure(names):
        for file in distribution(name).files or []:
            top = file.parts[0]
            if top != ".." and not (folder / top).exists():
                (folder / top).symlink_to(distribution(name).locate_file(top))
    return folder


def run(where: Path, script: Path, *arguments: str) -> str:
    """Runs a script that sees the standard library and the packages in `where`, nothing else."""
    start = (
        "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
        "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start, str(where), str(script), *arguments],
        capture_output=True, text=True, check=False, cwd=where,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
