"""What `import nas` gives, and what it waits for."""

import signal
import subprocess
import sys

import pytest

import nas


def python(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_public_name_is_there_and_known_to_one_home() -> None:
    homes = [name for names in nas._HOMES.values() for name in names]
    assert sorted(homes) == sorted(nas.__all__)
    assert all(getattr(nas, name).__name__ == name for name in nas.__all__ if name != "objective")
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        nas.serach  # noqa: B018


@pytest.mark.parametrize("asked", [[], ["--help"], ["search", "--help"]])
def test_help_waits_for_nothing_heavy(asked: list[str]) -> None:
    script = (
        "import sys; import nas\n"
        f"if {asked}:\n"
        "    from nas.__main__ import main\n"
        f"    sys.argv = ['nas', *{asked}]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'optuna', 'sqlalchemy', 'ray', 'onnx'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = python(script)
    assert done.returncode == 0 and done.stderr.strip() == "[]"


def test_an_interrupt_while_it_loads_leaves_no_traceback() -> None:
    script = (
        "import builtins, os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "plain = builtins.__import__\n"
        "def slow(name, *more):\n"
        "    if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return plain(name, *more)\n"
        "from nas.__main__ import main\n"
        "builtins.__import__ = slow\n"
        "main()"
    )
    done = python(script)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr.splitlines() == ["interrupted", "  nothing is lost; type it again"]
