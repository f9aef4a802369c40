"""`nas doctor`: what this machine has, what each missing part would enable, and what adds it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nas.api.places import storage_url
from nas.core.errors import NasError
from nas.hardware.agent.energy import POWERCAP
from nas.hardware.agent.energy import counter as energy_counter
from nas.hardware.agent.lease import Lease, Unusable, default_folder
from nas.hardware.agent.nvml import first_gpu
from nas.hardware.runtimes import compiler
from nas.store.secrets import masked
from nas.store.store import Store
from nas.training.allocator import preloaded

LEAST_DISK = 2e9  # bytes: a search of a hundred trials leaves about a tenth of that


@dataclass(frozen=True)
class Part:
    """One thing that a machine has or lacks.

    Args:
        name: what. found: its version or what was found, None where it is missing.
        enables: what it is for. add: the command that adds it, where there is one.
        needed: whether nothing works without it.
    """

    name: str
    found: str | None
    enables: str
    add: str = ""
    needed: bool = False

    def to_json(self) -> dict[str, Any]:
        """The plain data that is printed."""
        return dict(vars(self))


def doctor(storage: str | None = None) -> list[dict[str, Any]]:
    """Every part that `nas` needs or can use, whether it is here, and what would add it.

    Nothing heavy is imported and nothing is changed; the database is opened for reading.
    """
    parts = (*_packages(), *_hardware(), *_places(storage_url(storage)))
    return [part.to_json() for part in parts]


def _packages() -> Iterator[Part]:
    """Python and what is installed with pip."""
    yield Part("python", platform.python_version(), "everything; 3.11 or later", needed=True)
    yield Part("torch", _version("torch"), "building and training networks",
               "pip install torch==2.13.0", needed=True)  # fmt: skip
    yield Part("onnxruntime", _version("onnxruntime"), "scoring and timing on a processor",
               "pip install onnxruntime", needed=True)  # fmt: skip
    yield Part("openvino", _version("openvino"), "--runtime openvino, --format openvino",
               _extra("openvino", "openvino"))  # fmt: skip
    yield Part("tensorrt", _version("tensorrt"), "--runtime tensorrt on an NVIDIA GPU",
               "pip install tensorrt")  # fmt: skip
    yield Part(
        "ray", _version("ray"), "--runner ray: a search on a cluster", _extra("ray", "'ray[tune]'")
    )
    yield Part("psycopg", _version("psycopg"), "--storage postgresql+psycopg://...",
               _extra("postgres", "'psycopg[binary]'"))  # fmt: skip
    yield Part("datasets", _version("datasets"), "--data hf:NAME", _extra("datasets", "datasets"))
    yield Part("optuna-dashboard", _version("optuna-dashboard"), "nas dashboard",
               _extra("dashboard", "optuna-dashboard"))  # fmt: skip
    yield Part("pandas", _version("pandas"), "Study.to_pandas()", "pip install pandas")


def _hardware() -> Iterator[Part]:
    """What computes, and what counts energy."""
    yield Part("processor", f"{os.cpu_count()} cores, {len(os.sched_getaffinity(0))} to use here, "
               f"{platform.machine()}", "--device cpu", needed=True)  # fmt: skip
    gpu = first_gpu()
    yield Part("NVML", None if gpu is None else "answers",
               "clocks, heat, power and energy of an NVIDIA GPU",
               "install NVIDIA's driver: it brings libnvidia-ml.so.1")  # fmt: skip
    if gpu is not None and "+cpu" in (_version("torch") or ""):
        yield Part("torch for CUDA", None, "training on the GPU", "pip install torch==2.13.0")
    yield Part("GPU", None if gpu is None else _gpu(gpu), "training and timing on it: nas devices")
    yield Part("energy counter", _energy("cuda" if gpu else "cpu"), "--objective energy_mj",
               f"let this user read {POWERCAP}/intel-rapl:*/energy_uj")  # fmt: skip
    allocator = preloaded().get("LD_PRELOAD") or os.environ.get("LD_PRELOAD")
    yield Part("jemalloc", allocator, "quicker training: workers are started with it",
               "apt-get install libjemalloc2")  # fmt: skip
    yield Part("C++ compiler", compiler(), "--runtime torch:compiled", "apt-get install g++")


def _places(url: str) -> Iterator[Part]:
    """Where a study is written."""
    yield Part("database", _database(url), f"keeping studies in {masked(url)}",
               "nas search --space largekernel --device cpu --data digits")  # fmt: skip
    folder = _folder(url)
    free = shutil.disk_usage(folder).free
    yield Part("disk", f"{free / 1e9:.1f} GB free at {folder}" if free > LEAST_DISK else None,
               f"weights and files of trials ({free / 1e9:.2f} GB free at {folder})",
               "make room, or search from another folder", needed=True)  # fmt: skip
    yield Part("device locks", _locks(), "timing that nothing disturbs",
               "set NAS_LOCKS to a folder that all who use this device may write to",
               needed=True)  # fmt: skip


def _version(name: str) -> str | None:
    """The version of an installed package, without importing it."""
    try:
        return package_version(name)
    except PackageNotFoundError:
        return "unknown" if find_spec(name.replace("-", "_")) else None


def _extra(name: str, package: str) -> str:
    """How an extra is added in a clone of the project, or its package anywhere else."""
    cloned = (Path.cwd() / "constraints.txt").exists()
    return f"pip install -c constraints.txt -e '.[{name}]'" if cloned else f"pip install {package}"


def _gpu(gpu: Any) -> str:
    """The name of a GPU as its driver says it."""
    import ctypes

    text = ctypes.create_string_buffer(96)
    failed = gpu.library.nvmlDeviceGetName(gpu.handle, text, ctypes.c_uint(len(text)))
    return "an NVIDIA GPU" if failed else text.value.decode(errors="replace")


def _energy(kind: str) -> str | None:
    try:
        return energy_counter(kind, POWERCAP).name
    except OSError:
        return None


def _database(url: str) -> str | None:
    """How many studies are there, or None where there is no database yet.

    One that is there and cannot be read says why.
    """
    path = url.removeprefix("sqlite:///")
    if url.startswith("sqlite:///") and not Path(path).exists():
        return None
    try:
        with Store(url, read_only=True) as store:
            count = len(store.studies())
    except NasError as error:
        return f"cannot be read: {error.problem}"
    return f"{count} {'study' if count == 1 else 'studies'}"


def _folder(url: str) -> Path:
    """The nearest folder that exists to where artifacts go."""
    sqlite = url.startswith("sqlite:///")
    folder = (Path(url.removeprefix("sqlite:///")).parent if sqlite else Path("studies")).absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def _locks() -> str | None:
    try:
        Lease(default_folder(), "cpu").check()
    except Unusable:
        return None
    return str(default_folder())
