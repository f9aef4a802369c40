import pytest

from nas.core.job import Workload
from nas.hardware import bundle
from nas.hardware.protocol import Protocol
from nas.hardware.session import Asked, Session, sessions

# Stands for the agent: dies where a file's name says so. What happens then is the host side's.
STAND_IN = """
import json, os, signal, sys
job = json.loads(sys.stdin.read())
def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)
files = job["files"] + job["anchors"]
if any("never" in f for f in files):
    sys.exit("no runtime here")
say("start")
for i, f in enumerate(files):
    say("loading", file=i)
    if "loadkill" in f:
        os.kill(os.getpid(), signal.SIGKILL)
    if "refuse" in f:
        say("failed", file=i, error="refused")
    else:
        say("loaded", file=i)
if any("passkill" in f for f in files):
    os.abort()
for i, f in enumerate(files):
    say("result", file=i)
say("end")
"""


@pytest.fixture
def ask(tmp_path, monkeypatch, cpu, lease):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(bundle, "write", lambda folder: script)

    def run(*names, anchors=("steady",)):
        files = tuple(tmp_path / n for n in names)
        places = tuple(tmp_path / n for n in anchors)
        asked = Asked(files, places, cpu, lease, Workload(), Protocol(), 0)
        return sessions(asked, list(range(len(files))), 0)

    return run


def timed(found):
    return sorted(i for s in found for i in s.results if isinstance(i, int))


def test_all_is_well(ask):
    found, reasons = ask("a", "b")
    assert timed(found) == [0, 1] and reasons == {} and "steady" in found[0].results


def test_a_crash_at_loading_is_named(ask):
    found, reasons = ask("a", "loadkill", "b")
    assert timed(found) == [0, 2] and len(found) == 1
    assert "killed by signal 9" in reasons.pop(1) and not reasons


def test_a_crash_in_the_passes_is_found_by_halving(ask):
    found, reasons = ask("a", "b", "passkill", "c", "d")
    assert timed(found) == [0, 1, 3, 4]
    assert "killed by signal 6" in reasons.pop(2) and not reasons


def test_several_kinds_at_once(ask):
    found, reasons = ask("loadkill1", "a", "passkill", "refuse", "loadkill2")
    assert timed(found) == [1]
    assert set(reasons) == {0, 2, 3, 4} and reasons[3] == "refused"


def test_without_a_runtime_every_file_has_the_reason(ask):
    found, reasons = ask("a", "b", anchors=("never",))
    assert found == [] and all("no runtime here" in why for why in reasons.values())


def test_a_failing_anchor_is_the_hosts_fault(ask):
    for anchor in ("refuse", "loadkill"):
        found, reasons = ask("a", anchors=(anchor,))
        assert found == [] and "this host cannot measure now" in reasons[0]


def test_half_a_line_is_no_line():
    session = Session([0])
    session.hear({"event": "loading", "file": 0})
    assert session.loading == 0
    session.hear({"event": "hung", "file": 0, "seconds": 10.0})
    assert session.failed == {0: "hung: one call took over 10 s"}


def test_the_agent_is_given_one_thread_and_no_lock(ask, tmp_path, monkeypatch):
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import json, os, sys\n"
        "job = json.loads(sys.stdin.read())\n"
        "links = [os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') "
        "if os.path.islink(f'/proc/self/fd/{n}')]\n"
        "seen = {'threads': os.environ['OPENBLAS_NUM_THREADS'], 'memory': job['memory_share'],\n"
        "        'locks': [f for f in links if f.endswith(('.room', '.turnstile'))]}\n"
        "print(json.dumps({'event': 'start', **seen}))\n"
        "print(json.dumps({'event': 'end'}))\n"
    )
    monkeypatch.setattr(bundle, "write", lambda folder: probe)
    (session,), _ = ask("a")
    assert session.start["threads"] == "1" and session.start["locks"] == []
    assert 0 < session.start["memory"] < 1


def test_what_a_library_prints_into_the_lines_is_passed_by(ask, tmp_path, monkeypatch):
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import json, sys\n"
        "sys.stdin.read()\n"
        "print(json.dumps({'event': 'start', 'ready': True}))\n"
        'print(\'{"note": "not ours"}\')\n'
        "sys.stdout.flush()\n"
        "sys.stdout.buffer.write(b'\\xff\\xfe\\n')\n"
        "sys.stderr.buffer.write(b'\\xff crash\\n')\n"
        "sys.stdout.buffer.flush()\n"
        "print(json.dumps({'event': 'end'}))\n"
    )
    monkeypatch.setattr(bundle, "write", lambda folder: probe)
    (session,), _ = ask("a")
    assert session.start["ready"] and session.end == {"event": "end"}
