"""A real sshd on this machine, for this user alone, with keys and a known host of its own."""

import os
import shutil
import site
import socket
import subprocess
import time
import venv
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = "/usr/sbin/sshd"
LACKING = None if os.path.exists(SSHD) and shutil.which("ssh") else f"no {SSHD}, or no ssh"
# As few packages as the agent needs; what else this environment has, the other host has not.
NEEDED = ("numpy", "numpy.libs", "onnxruntime")


@dataclass
class Loopback:
    """`bin` goes first on PATH: its ssh knows the host `loopback`, and nothing of the user's."""

    bin: Path
    python: Path
    cache: Path
    tmp: Path
    log: Path
    process: subprocess.Popen

    @property
    def device(self):
        return f"ssh://loopback/cpu?python={self.python}"


def bare_python(folder, *packages):
    """A Python with the named packages of this one and no others."""
    venv.create(folder, with_pip=False, symlinks=True)
    target = next((folder / "lib").glob("python3.*")) / "site-packages"
    for source in map(Path, site.getsitepackages()):
        for name in packages:
            if (source / name).exists():
                (target / name).symlink_to(source / name)
    return folder / "bin" / "python"


def _key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_name(path.name + ".pub").read_text()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port, process, log, seconds=20.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"sshd did not start: {log.read_text()}")


@contextmanager
def running(folder):
    """The server, until the block ends."""
    if os.getuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where root's sshd locks itself in
    host_key, own_key, port = _key(folder / "host"), _key(folder / "own"), _free_port()
    (folder / "authorized").write_text(own_key)
    for name in ("cache", "tmp", "bin"):
        (folder / name).mkdir()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nListenAddress 127.0.0.2\n"
        f"ListenAddress 127.0.0.3\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv XDG_CACHE_HOME={folder}/cache TMPDIR={folder}/tmp\n"
    )
    (folder / "known").write_text("".join(f"[127.0.0.{n}]:{port} {host_key}" for n in (1, 2, 3)))
    (folder / "ssh_config").write_text(
        f"Host loopback\n HostName 127.0.0.1\n IdentityFile {folder}/own\n"
        f"Host stranger\n HostName 127.0.0.2\n UserKnownHostsFile {folder}/none\n"
        f"Host refused\n HostName 127.0.0.3\n IdentityFile {folder}/host\n"
        f"Host off\n HostName 127.0.0.1\n Port {_free_port()}\n"
        f"Host *\n Port {port}\n IdentitiesOnly yes\n StrictHostKeyChecking yes\n"
        f" UserKnownHostsFile {folder}/known\n"
    )
    wrapper = folder / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    log = folder / "log"
    process = subprocess.Popen([SSHD, "-D", "-E", log, "-f", folder / "sshd_config"])
    try:
        _answers(port, process, log)
        yield Loopback(
            folder / "bin", bare_python(folder / "python", *NEEDED), folder / "cache",
            folder / "tmp", log, process,
        )  # fmt: skip
    finally:
        process.terminate()
        process.wait()
