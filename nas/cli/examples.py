"""What to type for each command, as `nas COMMAND --help` ends with; a test parses every line."""

from __future__ import annotations

STUDY = "largekernel-digits-cpu"

EXAMPLES: dict[str, tuple[str, ...]] = {
    "search": (
        "nas search --space largekernel --device cpu --data digits",
        'nas search --space largekernel --constraint "latency_ms<=2" --trials 100',
        f"nas search --resume --study {STUDY}",
    ),
    "front": (f"nas front {STUDY}", f"nas front {STUDY} --plot front.html"),
    "pick": (f'nas pick {STUDY} --constraint "latency_ms<=1"',),
    "show": (f"nas show {STUDY} 7", f"nas show {STUDY} --importance"),
    "retarget": (f"nas retarget {STUDY} --device a100",),
    "train": (f"nas train {STUDY} 7 --epochs 100",),
    "export": (f"nas export {STUDY} 7 --output out/",),
    "verify": ("nas verify out/",),
    "scale": (f"nas scale {STUDY} 7 --factor 8 --name larger",),
    "report": (f"nas report {STUDY} --output report.html",),
    "dashboard": (f"nas dashboard {STUDY} --port 8081",),
    "profile": (
        "nas profile largekernel:convnext_t --device cpu --static",
        f"nas profile {STUDY}:7 --device cpu --by-layer",
    ),
    "spaces": ("nas spaces",),
    "devices": ("nas devices", "nas devices --json"),
    "studies": ("nas studies",),
    "gc": (f"nas gc {STUDY} --dry-run",),
    "replay": ("nas replay TABLE --strategy nsga2 --trials 300 --seeds 5",),
    "calibrate": ("nas calibrate cpu", "nas calibrate a100 --csv measured.csv"),
    "doctor": ("nas doctor", "nas doctor --json"),
}


def epilog(name: str | None) -> str | None:
    """What the help of a command ends with, its lines left as they are; None without examples.

    >>> epilog("spaces")
    '\\x08\\nExample:\\n  nas spaces'
    """
    lines = EXAMPLES.get(name or "")
    if lines is None:
        return None
    head = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(["\b", head, *(f"  {line}" for line in lines)])
