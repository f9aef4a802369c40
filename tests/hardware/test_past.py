"""Which earlier sessions are taken for sessions like this one."""

from nas.core.job import Workload
from nas.hardware.device import parse
from nas.hardware.history import REFERENCE
from nas.hardware.lease import Lease
from nas.hardware.past import past
from nas.hardware.protocol import Protocol


def of(folder, device, batch=1):
    filed = f"{device.runtime} of some version"
    return past(Lease(folder, "cpu"), device, Workload(batch), Protocol(), filed)


def test_another_batch_or_runtime_repeats_nothing(tmp_path):
    device = parse('kind = "cpu"', "cpu")
    kept = {of(tmp_path, d, batch).repeats.key
            for d in (device, device.under("torch")) for batch in (1, 1, 8)}  # fmt: skip
    assert len(kept) == 4


def test_the_quiet_machine_is_the_same_whatever_is_timed(tmp_path):
    device = parse('kind = "cpu"', "cpu")
    one, other = (of(tmp_path, d).reference for d in (device, device.under("torch")))
    for _ in range(5):
        one.add({REFERENCE: 40.0})
    assert other.usual() == {REFERENCE: 40.0}


def test_anchors_of_another_batch_say_nothing_of_the_spread(tmp_path):
    device = parse('kind = "cpu"', "cpu")
    one, same, many = (of(tmp_path, device, batch).anchors for batch in (1, 1, 8))
    one.add({"dense": 100.0})
    many.add({"dense": 400.0})
    assert len(same.rows()) == len(many.rows()) == 1


def test_what_is_kept_of_anchors_the_wide_one_and_repeats_is_apart(tmp_path):
    found = of(tmp_path, parse('kind = "cpu"', "cpu"))
    keys = {found.anchors.key, found.wide.key, found.repeats.key, found.reference.key}
    assert len(keys) == 4
