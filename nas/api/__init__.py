"""What a person does with `nas`, one function each; the command line parses and calls these.

Each function is imported when it is first used, so that looking at a study never waits for torch;
no module is called as a function is, or one would hide the other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api.analysis import correlations, importance
    from nas.api.calibrating import calibrate
    from nas.api.cleaning import gc
    from nas.api.dashboards import dashboard
    from nas.api.finishing import train
    from nas.api.health import doctor
    from nas.api.listing import devices, profile, spaces
    from nas.api.notebook import Study
    from nas.api.replaying import replay
    from nas.api.reporting import report
    from nas.api.retargeting import retarget
    from nas.api.scaling import scale
    from nas.api.searching import search
    from nas.api.ship import export, load
    from nas.api.study import front, pick, show, studies
    from nas.api.verifying import verify

__all__ = [
    "Study", "calibrate", "correlations", "dashboard", "devices", "doctor", "export", "front",
    "gc", "importance", "load", "pick", "profile", "replay", "report", "retarget", "scale",
    "search", "show", "spaces", "studies", "train", "verify",
]  # fmt: skip

_HOMES = {
    "Study": "notebook",
    "calibrate": "calibrating",
    "dashboard": "dashboards",
    "doctor": "health",
    "gc": "cleaning",
    "replay": "replaying",
    "report": "reporting",
    "retarget": "retargeting",
    "scale": "scaling",
    "search": "searching",
    "train": "finishing",
    "verify": "verifying",
    **dict.fromkeys(("correlations", "importance"), "analysis"),
    **dict.fromkeys(("front", "pick", "show", "studies"), "study"),
    **dict.fromkeys(("devices", "profile", "spaces"), "listing"),
    **dict.fromkeys(("export", "load"), "ship"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
