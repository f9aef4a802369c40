"""A training at rest: weights, buffers and optimizer state in one safetensors file, no pickle.

Tensors are named `module/NAME` and `optimizer/NAME/PART`; the file's metadata says in JSON how far
the training came and of what it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nas.core.errors import NasError

_MODULE, _OPTIMIZER = "module/", "optimizer/"


def save(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, about: Mapping[str, Any]
) -> None:
    """Writes a checkpoint whole or not at all: to a file beside, then renamed.

    Raises: NasError where the disk does not take it.
    """
    tensors = {_MODULE + name: _plain(value) for name, value in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        for part, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{_OPTIMIZER}{name}/{part}"] = _plain(torch.as_tensor(value))
    _write(path, tensors, about)


def save_weights(path: Path, module: nn.Module) -> Path:
    """Writes a trained module's state alone, as `restore` reads it; returns the path.

    Raises: NasError where the disk does not take it.
    """
    tensors = {_MODULE + name: _plain(value) for name, value in module.state_dict().items()}
    _write(path, tensors, {})
    return path


def _write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(dict(tensors), partial, metadata={"training": json.dumps(dict(about))})
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise NasError(
            f"the checkpoint {path} cannot be written: {error}",
            "make room on the disk, then type the same command with --resume",
        ) from error


def _plain(tensor: Tensor) -> Tensor:
    # Own memory, rows first: safetensors refuses tensors that share or skip memory.
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def about(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself. Raises: NasError where it is none."""
    try:
        with safe_open(path, framework="pt") as file:
            found: dict[str, Any] = json.loads((file.metadata() or {})["training"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _unreadable(path, error) from error
    return found


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Puts a checkpoint's weights into a module, and its state into the module's optimizer.

    Raises: NasError where the file is none, or of another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    weights = {k[len(_MODULE) :]: v for k, v in tensors.items() if k.startswith(_MODULE)}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise NasError(
            f"the checkpoint {path} is of another network: {str(error).splitlines()[-1].strip()}",
            "name a checkpoint of this architecture",
        ) from error
    if optimizer is None:
        return
    for name, parameter in module.named_parameters():
        prefix = f"{_OPTIMIZER}{name}/"
        for key, value in tensors.items():
            if key.startswith(prefix):
                part = key[len(prefix) :]
                alike = parameter if value.shape == parameter.shape else value
                like = torch.zeros_like(alike, device=parameter.device)
                optimizer.state[parameter][part] = like.detach().copy_(value)


def load_weights(path: Path, module: nn.Module, head: Callable[[], str] | None = None) -> None:
    """Puts the tensors of any safetensors file into a module, each by its name.

    Every parameter and buffer must be there with its shape, but a counter of batches may be
    missing, and nothing else may be; a checkpoint of this program's own is taken too.

    Args:
        head: names the layer before the output, asked where something does not fit. If that is
            what does not fit, because the weights are of a task with other outputs, the module
            keeps the head it was built with.

    Raises: NasError naming what does not fit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise NasError(
            f"cannot read the weights {path}: {error}",
            "write them with  safetensors.torch.save_file(module.state_dict(), FILE)",
        ) from error
    if all(name.startswith((_MODULE, _OPTIMIZER)) for name in tensors):
        tensors = {k[len(_MODULE) :]: v for k, v in tensors.items() if k.startswith(_MODULE)}
    state = module.state_dict()
    faults = _faults(tensors, state)
    if faults and head is not None:
        start = f"{head()}."
        body = {k: v for k, v in tensors.items() if not k.startswith(start)}
        if not _faults(body, {k: v for k, v in state.items() if not k.startswith(start)}):
            tensors, faults = body, []
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise NasError(
            f"the weights {path} are of another network: {'; '.join(faults[:3])}{more}",
            "name the weights of the very network that --network builds",
        )
    module.load_state_dict(tensors, strict=False)


def _faults(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Why these tensors are not those of that state, in words."""
    needed = {k for k in state if not k.endswith("num_batches_tracked")}
    faults = [f"{name} is missing" for name in sorted(needed - set(tensors))]
    faults += [f"{name} is not in the network" for name in sorted(set(tensors) - set(state))]
    return faults + [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(state[name].shape)}"
        for name in sorted(set(tensors) & set(state))
        if tensors[name].shape != state[name].shape
    ]


def _unreadable(path: Path, error: Exception) -> NasError:
    return NasError(
        f"not a checkpoint that can be read: {path} ({error})",
        "it was cut short or is of another program; leave it out to train from the start",
    )
