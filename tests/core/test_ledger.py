"""What another device's numbers change in a trial, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nas.core import ledger
from nas.core.architecture import Architecture
from nas.core.measurement import Measurement
from nas.core.trial import Event, Rung, Trial, devices_of

TRIAL = Trial(0, Architecture("toy", {"n": 0}), state="complete")


def payload(source: Any, value: float, device: str = "a100") -> dict[str, Any]:
    found = Measurement("latency_ms", value, "ms", 0.0, 9.0, 0.1, 5, source, "transfer")
    return {"job": "retarget", "form": "trained", "device": device, "workload": "b1",
            "measurement": found.to_json(), "processes": 1, "bench": None}  # fmt: skip


def value(trial: Trial) -> float:
    return trial.measurements["latency_ms@a100:b1/trained"].value


def test_the_newest_measurement_counts_and_no_prediction_after_one() -> None:
    trial = TRIAL
    for source, given, kept in (
        ("predicted", 1.0, 1.0), ("predicted", 2.0, 2.0), ("measured", 3.0, 3.0),
        ("predicted", 4.0, 3.0), ("measured", 5.0, 5.0),
    ):  # fmt: skip
        trial = ledger.reported(trial, payload(source, given))
        assert value(trial) == kept


def test_a_failure_elsewhere_says_nothing_against_the_trial() -> None:
    failed = {"job": "retarget", "device": "a100", "error": "it hangs"}
    assert ledger.reported(TRIAL, failed) == TRIAL


def test_devices_are_read_from_the_names_whatever_is_in_them() -> None:
    names = ("cpu", "a100", "ssh://pi@board:22/raspberry_pi_5")
    trial = TRIAL
    for name in names:
        trial = ledger.reported(trial, payload("measured", 1.0, name))
    assert devices_of([TRIAL, trial]) == sorted(names)


def test_a_resumed_trial_runs_again_with_all_that_was_found_out_about_it() -> None:
    rung = Rung(0, 0, 3, 50.0, 9, "c.safetensors", "stop")
    known = replace(TRIAL, build="b", costs={"macs": 1.0}, rungs=(rung,))
    stopped = ledger.told(known, {"state": "stopped", "values": {"accuracy": 50.0},
                                  "violations": {"macs<=2": -0.5}})  # fmt: skip
    again = ledger.after(Event("resumed", 0, {}), {0: stopped}, {stopped.key: 0})
    assert again == replace(known, state="running")


def gate(passed: bool) -> Event:
    return Event("reported", 0, {"job": "gate", "passed": passed, "limit": "error<=0.001",
                                 "excess": 0.5, "reason": "it differs"})  # fmt: skip


def test_a_file_that_failed_its_gate_keeps_the_trial_off_the_front_until_one_passes() -> None:
    other = replace(TRIAL, violations={"latency_ms<=5": -0.1}, error=None)
    marked = ledger.after(gate(False), {0: other}, {})
    assert not marked.feasible and marked.error == "it differs" and marked.state == "complete"
    assert marked.violations == {"latency_ms<=5": -0.1, "parity error<=0.001": 0.5}
    assert ledger.after(gate(True), {0: marked}, {}) == other
    assert ledger.after(gate(True), {0: other}, {}) == other


def test_what_a_later_training_brought_changes_nothing_of_the_search() -> None:
    event = Event("reported", 0, {"job": "finish", "weights": "w", "error": "it diverged"})
    assert ledger.after(event, {0: TRIAL}, {}) == TRIAL
