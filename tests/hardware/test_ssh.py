import os
import shlex
import stat
import subprocess
import sys
import threading
from contextlib import nullcontext

import loopback as places
import pytest

from nas.core.errors import NasError
from nas.hardware import ssh
from nas.hardware.agent.lease import Lease as AgentLease
from nas.hardware.device import host_fingerprint, named
from nas.hardware.hosts import Ended
from nas.hardware.lease import Lease
from nas.hardware.protocol import Protocol
from nas.hardware.ssh import Address, Lost, Ssh, Unreachable, parse
from nas.hardware.timing import measure, runtime_version

QUICK = Protocol(warm_s=0.0, warm_cap_s=0.05, visit_s=0.004, max_passes=6, seconds=0.05)


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, address",
    [
        ("ssh://kitchen", Address("kitchen")),
        ("ssh://kitchen/", Address("kitchen")),
        ("ssh://pi@192.168.1.7:2222/raspberry_pi_5", Address("192.168.1.7", "pi", 2222,
                                                            "raspberry_pi_5")),
        ("ssh://[fe80::1%eth0]:22/cpu", Address("[fe80::1%eth0]", None, 22)),
        ("ssh://k?python=venv/bin/python", Address("k", python="venv/bin/python")),
        ("ssh://k?python=~/venv/bin/python", Address("k", python="venv/bin/python")),
    ],
)  # fmt: skip
def test_addresses(text, address):
    assert parse(text) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "ssh://", "ssh://-oProxyCommand=touch${IFS}x", "ssh://-F/etc/passwd@host",
        "ssh://-l@host", "ssh://a b", "ssh://host;reboot", "ssh://$(reboot)", "ssh://host\n",
        "ssh://host/../etc", "ssh://host/-x", "ssh://host:0", "ssh://host:65536",
        "ssh://host/cpu?python=-c", "ssh://host/cpu?python=a;b", "ssh://host/cpu?shell=sh",
        "ssh://[;reboot]",
    ],
)  # fmt: skip
def test_what_is_no_address_never_reaches_ssh(text):
    with pytest.raises(NasError, match="not a device on another host"):
        parse(text)


def test_the_command_is_a_list_and_asks_nothing():
    command = Ssh(parse("ssh://pi@kitchen:2222/cpu?python=v/bin/python"))._command()
    assert command[0] == "ssh" and command[-3:-1] == ["--", "kitchen"]
    assert {"-oBatchMode=yes", "-oForwardAgent=no", "-lpi", "-p2222"} <= set(command)
    run, python, flag, code, size = shlex.split(command[-1])
    assert (run, python, flag) == ("exec", "v/bin/python", "-c") and int(size) > 1000
    # in single quotes every shell passes these on as they are
    assert not set("'\\!\n") & set(code)


# --- conversations -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["stand-in", "sshd"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("host")
    if request.param == "sshd" and places.LACKING:
        pytest.skip(places.LACKING)
    stand_in = request.param == "stand-in"
    with nullcontext(places.stand_in(folder)) if stand_in else places.running(folder) as made:
        yield made


@pytest.fixture
def there(server, monkeypatch):
    monkeypatch.setenv("PATH", f"{server.bin}:{os.environ['PATH']}")
    ssh.connect.cache_clear()
    yield server
    ssh.connect.cache_clear()


@pytest.fixture
def device(there):
    return named(there.device)


@pytest.fixture
def here(tmp_path, device):
    return Lease(tmp_path / "own", device.name)


@pytest.mark.slow
def test_files_are_timed_there_and_sent_once(there, device, here, files, monkeypatch):
    chosen = [files["small"], files["broken"], files["large"]]
    first, broken, second = measure(chosen, device, here, protocol=QUICK, basis="table")
    assert first.value < second.value and "InvalidProtobuf" in broken
    assert first.record["device"] == there.device and not first.record["host_changed"]
    assert first.record["fingerprint"] == host_fingerprint()  # the other host is this one
    assert runtime_version(device).startswith("onnxruntime 1.")

    kept = there.cache / "nas-agent"
    names = {p.name for p in kept.iterdir()}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert len(names) == 6 and {"cpu.room", "cpu.turnstile"} == set(os.listdir(there.locks))
    sent = []
    send = ssh._Line.send
    monkeypatch.setattr(
        ssh._Line, "send", lambda self, *parts: (sent.extend(parts), send(self, *parts))
    )
    measure(chosen[::2], device, here, protocol=QUICK, basis="table")
    assert not [part for part in sent if not isinstance(part, bytes)]
    assert {p.name for p in kept.iterdir()} == names
    assert not list(there.tmp.glob("nas-tmp-agent-*"))


@pytest.mark.slow
def test_a_file_that_hangs_there_fails_alone(device, here, files):
    rules = Protocol(**{**vars(QUICK), "call_cap_s": 1.0})
    found = measure([files["hanging"], files["small"]], device, here, protocol=rules, basis="table")
    assert "hung" in found[0] and not isinstance(found[1], str)


@pytest.mark.slow
def test_a_search_on_that_host_is_waited_for(there, device, here, files):
    found = []
    run = threading.Thread(
        target=lambda: found.extend(
            measure([files["small"]], device, here, protocol=QUICK, basis="table")
        )
    )
    with AgentLease(there.locks, "cpu").training():
        run.start()
        run.join(2.5)
        assert run.is_alive() and not found
    run.join(30)
    assert not isinstance(found[0], str)


CALLER = """
import sys
from pathlib import Path
from nas.hardware import ssh
from nas.hardware.device import named
from nas.hardware.lease import Lease
from nas.hardware.protocol import Protocol
from nas.hardware.timing import measure
rules = Protocol(call_cap_s=1000.0)
events = ssh._Line.events
def told(self):
    for event in events(self):
        if event["event"] == "leased":
            print("leased", flush=True)
        yield event
ssh._Line.events = told
measure([Path(sys.argv[2])], named(sys.argv[1]), Lease(Path(sys.argv[3]), "x"),
        protocol=rules, basis="table")
"""


@pytest.mark.slow
def test_a_killed_caller_frees_the_host(there, device, files, tmp_path):
    command = [sys.executable, "-c", CALLER, there.device, files["hanging"], tmp_path / "own"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        try:
            assert caller.stdout.readline() == "leased\n"
            assert list(there.tmp.glob("nas-tmp-agent-*"))
        finally:
            caller.kill()
    entered = threading.Event()

    def enter():
        with AgentLease(there.locks, "cpu").measuring():
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    assert entered.wait(20), "the agent went on without its caller"


@pytest.fixture
def breaking(monkeypatch):
    """Breaks the connection off at the given event, so many times."""

    def install(at, times):
        events, left = ssh._Line.events, [times]

        def broken(line):
            for event in events(line):
                if event["event"] == at and left[0]:
                    left[0] -= 1
                    line._process.kill()
                yield event

        monkeypatch.setattr(ssh._Line, "events", broken)

    return install


@pytest.mark.slow
@pytest.mark.parametrize("at", ["missing", "loaded"])
def test_a_connection_that_breaks_off_is_made_again(device, here, files, breaking, at):
    breaking(at, 1)
    (found,) = measure([files["small"]], device, here, protocol=QUICK, basis="table")
    assert not isinstance(found, str)


@pytest.mark.slow
def test_one_that_breaks_off_twice_is_the_files_failure(device, here, files, breaking):
    breaking("leased", 2)
    (why,) = measure([files["small"]], device, here, protocol=QUICK, basis="table")
    assert "it broke off, twice" in why


@pytest.mark.slow
def test_what_is_lacking_there_is_named(there, tmp_path):
    bare = places.bare_python(tmp_path / "bare")
    with pytest.raises(Unreachable, match="has no numpy") as error:
        Ssh(parse(f"ssh://loopback/cpu?python={bare}")).versions("onnxruntime")
    assert f"{bare} -m pip install numpy onnxruntime" in error.value.hint
    some = places.bare_python(tmp_path / "some", "numpy", "numpy.libs")
    with pytest.raises(Unreachable, match="has no onnxruntime"):
        Ssh(parse(f"ssh://loopback/cpu?python={some}")).versions("onnxruntime")
    with pytest.raises(Unreachable, match="there is no /nowhere/python at loopback"):
        Ssh(parse("ssh://loopback/cpu?python=/nowhere/python")).fingerprint()
    old = tmp_path / "old"
    places._program(old, 'echo "Python 3.7.3" >&2; exit 1')
    with pytest.raises(Unreachable, match=r"Python 3\.7\.3 at loopback is too old"):
        Ssh(parse(f"ssh://loopback/cpu?python={old}")).fingerprint()


@pytest.mark.slow
def test_what_a_login_prints_is_passed_by(there, tmp_path):
    loud = tmp_path / "loud"
    places._program(loud, f'echo Welcome; echo "{{not json}}"; exec {there.python} "$@"')
    assert Ssh(parse(f"ssh://loopback/cpu?python={loud}")).fingerprint() == host_fingerprint()


@pytest.mark.slow
def test_a_host_that_cannot_keep_files_says_why(there, device, here, files):
    (there.cache / "nas-agent").mkdir(0o700, exist_ok=True)  # as whoever measured here before left
    (there.cache / "nas-agent").rename(there.cache / "elsewhere")
    (there.cache / "nas-agent").symlink_to(there.cache / "elsewhere")
    spare = there.tmp / f"nas-agent-{os.getuid()}"
    spare.symlink_to(there.cache / "elsewhere")
    try:
        with pytest.raises(Unreachable, match=r"loopback cannot measure: the folder .* is a link"):
            measure([files["small"]], device, here, protocol=QUICK, basis="table")
    finally:
        spare.unlink()
        (there.cache / "nas-agent").unlink()
        (there.cache / "elsewhere").rename(there.cache / "nas-agent")


@pytest.mark.slow
@pytest.mark.parametrize("server", ["sshd"], indirect=True)  # the stand-in answers to every name
@pytest.mark.parametrize(
    "host, problem, hint",
    [
        ("nowhere.invalid", "no host named 'nowhere.invalid'", "check the name"),
        ("refused", "refused refuses your keys", "try  ssh refused  by hand"),
        ("stranger", "the key of stranger is not known", "try  ssh stranger  once by hand"),
        ("off", "no connection to off: .*refused", "is it switched on?"),
    ],
)
def test_two_lines_for_a_host_that_does_not_answer(there, host, problem, hint):
    with pytest.raises(Unreachable, match=problem) as error:
        Ssh(parse(f"ssh://{host}")).fingerprint()
    assert hint in error.value.hint


def test_without_an_ssh_of_its_own_a_machine_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unreachable, match="there is no ssh on this machine"):
        Ssh(parse("ssh://kitchen")).fingerprint()


# --- patience ----------------------------------------------------------------------------------


class Flaky(Ssh):
    """A host that answers or not, as told."""

    def told(self, *answers):
        self.answers = list(answers)
        return self

    def _ask(self, request, files=None):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [answer]


GONE = Lost("no connection to kitchen: gone", "is it switched on?")
JOB = {"files": [], "anchors": []}
ENDED = {"event": "ended", "code": 0, "error": ""}


def flaky(*answers, patience_s=60.0):
    return Flaky(parse("ssh://kitchen"), patience_s).told(*answers)


def test_a_lost_host_is_waited_for(monkeypatch):
    pauses = []
    monkeypatch.setattr(ssh.time, "sleep", pauses.append)
    host = flaky(GONE, GONE, GONE, {"event": "about"}, ENDED)
    assert host.run(JOB, 1.0) == Ended("", "", 0)
    assert pauses == [1.0, 2.0]


def test_patience_ends_and_so_does_what_needs_the_host():
    with pytest.raises(Unreachable, match="gone"):
        flaky(GONE, GONE, patience_s=0.0).run(JOB, 1.0)


def test_a_refusal_is_not_waited_out():
    with pytest.raises(Unreachable, match="no keys"):
        flaky(Unreachable("no keys", "make some")).run(JOB, 1.0)


@pytest.mark.parametrize(
    "code, last, problem",
    [
        (255, "client_loop: send disconnect: Broken pipe", "no connection to kitchen: client_loop"),
        (255, "", "it broke off"),
        (-9, "", "it broke off"),
        (255, "Host key verification failed.", "the key of kitchen"),
        (127, "bash: line 1: exec: python3: not found", "there is no python3 at kitchen"),
        (1, "KeyError: 'ask'", r"the agent at kitchen ended early \(1\): KeyError"),
    ],
)
def test_what_ssh_says_in_words(code, last, problem):
    with pytest.raises(Unreachable, match=problem):
        raise Ssh(parse("ssh://kitchen"))._fault(code, last)
