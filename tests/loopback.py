"""Another host on this machine: a real sshd with keys of its own, or a stand-in for ssh.

The stand-in runs the command here, as ssh would there. It holds what follows from the conversation;
the sshd also what ssh itself does. Where none is installed, none is brought.
"""

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

    folder: Path
    bin: Path
    python: Path
    cache: Path
    tmp: Path
    server: subprocess.Popen | None

    @property
    def device(self):
        return f"ssh://loopback/cpu?python={self.python}"

    @property
    def locks(self):
        return self.tmp / "nas-locks"


def bare_python(folder, *packages):
    """A Python with the named packages of this one and no others."""
    venv.create(folder, with_pip=False, symlinks=True)
    target = next((folder / "lib").glob("python3.*")) / "site-packages"
    for source in map(Path, site.getsitepackages()):
        for name in packages:
            if (source / name).exists():
                (target / name).symlink_to(source / name)
    return folder / "bin" / "python"


def _made(folder, server=None):
    python = bare_python(folder / "python", *NEEDED)
    for name in ("cache", "tmp", "bin"):
        (folder / name).mkdir()
    return Loopback(folder, folder / "bin", python, folder / "cache", folder / "tmp", server)


def _program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def stand_in(folder):
    """An ssh that runs its last argument here."""
    made = _made(folder)
    place = f"XDG_CACHE_HOME={made.cache} TMPDIR={made.tmp} NAS_LOCKS={made.locks}"
    _program(made.bin / "ssh", f'for last; do :; done\nexec env {place} sh -c "$last"')
    return made


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
def running(folder, locks=None):
    """An sshd and what reaches it, until the block ends; `locks` is where its side keeps them."""
    made = _made(folder)
    if os.getuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where root's sshd locks itself in
    host_key, own_key, port = _key(folder / "host"), _key(folder / "own"), _free_port()
    (folder / "authorized").write_text(own_key)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nListenAddress 127.0.0.2\n"
        f"ListenAddress 127.0.0.3\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv XDG_CACHE_HOME={folder}/cache TMPDIR={folder}/tmp "
        f"NAS_LOCKS={locks or made.locks}\n"
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
    _program(made.bin / "ssh", f'exec {shutil.which("ssh")} -F {folder}/ssh_config "$@"')
    log = folder / "log"
    made.server = subprocess.Popen([SSHD, "-D", "-E", log, "-f", folder / "sshd_config"])
    try:
        _answers(port, made.server, log)
        yield made
    finally:
        made.server.terminate()
        made.server.wait()
