import fcntl
import hashlib
import io
import os

import pytest

from nas.hardware.agent.remote import kept_files


def named(content, suffix=".onnx"):
    return {
        "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "suffix": suffix,
    }  # fmt: skip


def put(kept, content, age=0):
    file = named(content)
    kept.take(file, io.BytesIO(content))
    os.utime(kept.path(file), (1e9 - age, 1e9 - age))
    return file


def test_a_file_is_taken_whole_and_only_as_named(tmp_path):
    with kept_files(tmp_path) as kept:
        file = named(b"network")
        assert not kept.holds(file)
        with pytest.raises(OSError, match="not the one that was named"):
            kept.take(file, io.BytesIO(b"notwork"))
        with pytest.raises(EOFError):
            kept.take(file, io.BytesIO(b"net"))
        assert not kept.holds(file)
        kept.take(file, io.BytesIO(b"networkAND WHAT FOLLOWS"))
        assert kept.holds(file) and kept.path(file).read_bytes() == b"network"


def test_the_files_longest_unused_go_first(tmp_path):
    with kept_files(tmp_path) as kept:
        old, used, new = (put(kept, c * 100, a) for c, a in ((b"a", 9), (b"b", 8), (b"c", 1)))
        assert kept.holds(used)
        (tmp_path / "half.part").write_bytes(b"x")
    with kept_files(tmp_path, limit=250) as kept:
        assert [kept.holds(f) for f in (old, used, new)] == [False, True, True]
        assert not (tmp_path / "half.part").exists()


def test_nothing_is_cleared_while_another_measures(tmp_path):
    with kept_files(tmp_path) as kept:
        file = put(kept, b"a" * 100)
        with kept_files(tmp_path, limit=0) as other:
            assert other.holds(file)
            handle = os.open(tmp_path / "lock", os.O_RDWR)
            with pytest.raises(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(handle)
