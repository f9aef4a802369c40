"""The agent as one file that any Python runs: `python -I agent.pyz < job.json`."""

from __future__ import annotations

import functools
import io
import zipfile
from pathlib import Path

from nas.hardware import agent

_NAME = "nas_agent"
# The reference kernel must use one thread: a slow core would be hidden by a second one.
_START = f"""import os
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
from {_NAME}.main import main
main()
"""


@functools.cache
def packed() -> bytes:
    """A zip of the agent's modules, without times or places: equal modules give equal bytes."""
    folder = Path(agent.__path__[0])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), _START)
        for path in sorted(folder.rglob("*.py")):
            name = f"{_NAME}/{path.relative_to(folder).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes())
    return buffer.getvalue()


def write(folder: Path) -> Path:
    """Writes the agent into a folder and returns its path."""
    path = folder / "agent.pyz"
    path.write_bytes(packed())
    return path
