from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from nas.core.measurement import Measurement
from nas.report import listings


def printed(shown: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=80, highlight=False, markup=False).print(shown)
    return out.getvalue()


def test_spaces_show_size_presets_and_faults() -> None:
    rows = [
        {"name": "big", "file": "f", "about": "Nets.", "decisions": 9, "size": 2.5e20,
         "presets": ["a", "b"], "shadows": "big: f is used instead of the shipped one"},
        {"name": "real", "file": "f", "about": "", "decisions": 1, "size": float("inf"),
         "presets": [], "shadows": None},
        {"name": "bits", "kind": "axis", "file": "f", "about": "Bits.", "decisions": 2, "size": 3,
         "presets": [], "shadows": None},
        {"name": "bad", "file": "f", "error": "line 3: no"},
    ]  # fmt: skip
    assert [line.rstrip() for line in printed(listings.spaces_table(rows)).splitlines()] == [
        "big  9 decisions, 2.5e+20 networks",
        "  Nets.",
        "  big: f is used instead of the shipped one",
        "  presets: a, b",
        "real  1 decisions, endless networks",
        "+bits  2 decisions, 3 ways",
        "  Bits.",
        "bad  cannot be used: line 3: no",
    ]
    assert "no search space found" in printed(listings.spaces_table([]))


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"attached": True, "nodes": 2}, "measured here"),
        ({"attached": False, "nodes": 1}, "measured on 1 node "),
        ({"attached": False, "nodes": 2}, "measured on 2 nodes"),
        ({"attached": False, "nodes": 0, "predicted": "table"}, "predicted, table"),
        ({"attached": False, "nodes": None, "predicted": None}, "unknown"),
    ],
)
def test_devices_say_where_their_latencies_come_from(known: dict[str, object], said: str) -> None:
    row = {"name": "a100", "title": "A card", "kind": "cuda", "runtime": "torch",
           "file": "f", "shadows": None, **known}  # fmt: skip
    assert said in printed(listings.devices_table([row]))


def test_devices_say_which_runtimes_are_installed_and_what_adds_the_others() -> None:
    row = {"name": "cpu", "title": "x", "kind": "cpu", "runtime": "torch:bf16", "file": "f",
           "attached": True, "runtimes": {"onnxruntime": "1.31.1", "openvino": None}}  # fmt: skip
    card = row | {"name": "card", "attached": False, "runtimes": {"tensorrt": None}}
    text = printed(listings.devices_table([row, card]))
    assert "torch:bf16" in text and "runtimes here: onnxruntime 1.31.1" in text
    assert "not here: openvino (pip install openvino)" in text and "tensorrt" not in text


def test_a_profile_that_cannot_be_read_is_named_below_the_others() -> None:
    row = {"name": "cpu", "title": "x", "kind": "cpu", "runtime": "torch", "file": "f",
           "attached": True, "runtimes": {}}  # fmt: skip
    text = printed(
        listings.devices_table([row, {"name": "bad", "error": "bad.toml: kind = 'gpu'"}])
    )
    assert "measured here" in text and "bad cannot be used: bad.toml: kind = 'gpu'" in text


def test_no_device_profile_is_said() -> None:
    assert "no device profile found" in printed(listings.devices_table([]))


@pytest.mark.parametrize(
    ("running", "complete", "state"), [(True, 3, "running"), (False, 3, "open"), (None, 8, "done")]
)
def test_studies_say_how_far_they_are(running: bool | None, complete: int, state: str) -> None:
    row = {"name": "one", "space": "s", "device": "cpu", "data": "digits", "trials": 8,
           "counts": {"complete": complete, "running": 1}, "running": running,
           "updated": "2026-11-21T08:30:11+00:00"}  # fmt: skip
    text = printed(listings.studies_table([row]))
    assert f"{complete}/8" in text
    assert state in text
    assert "2026-11-21 08:30" in text


COUNTS = {"params": 5, "macs": 7, "activations": 9}


def test_a_profile_shows_both_forms_and_what_was_not_counted() -> None:
    timing = Measurement("latency_ms", 4.0, "ms", 3.5, 4.5, 0.2, 99, "measured", "untrained form")
    found = {
        "input": [3, 224, 224], "params": 28589128, "macs": 4456000000, "activations": 1e7,
        "deploy": {"params": 28589128, "macs": 4400000000}, "peak_memory_mb": 12.5,
        "peak_memory_basis": "activations, counted", "batch": 8,
        "size_mb": 114.4, "size_basis": "ONNX file, opset 18", "uncounted_ops": {"aten::odd": 2},
        "nonzero": {"params": 1e7, "macs": 2e9}, "latency_ms": timing.to_json(),
        "choices": {"stages.0.kernel": 7}, "layers": {"": COUNTS, "stem": COUNTS},
    }  # fmt: skip
    text = printed(listings.profile_table("convnext_t", found))
    for part in (
        "3 x 224 x 224", "28.59 M\n", "4.456 G in training, 4.4 G deployed",
        "8.912 G in training, 8.8 G deployed  (2 x MACs)", "10 M params, 2 G MACs",
        "114.4 MB  ONNX file, opset 18",
        "4.00 [3.50, 4.50] ms  measured, untrained form, a call of 8",
        "aten::odd 2", "(whole)", "12.5 MB  of activations, counted, a call of 8",
    ):  # fmt: skip
        assert part in "\n".join(line.rstrip() for line in text.splitlines())


def test_a_profile_shows_what_was_measured_and_why_the_rest_was_not() -> None:
    energy = Measurement("energy_mj", 2.0, "mJ", 1.8, 2.2, 0.1, 5, "measured", "untrained form",
                         {"counter": "rapl package"})  # fmt: skip
    memory = Measurement("peak_memory_mb", 6.0, "10^6 bytes", 5.5, 6.5, 0.2, 3, "measured",
                         "untrained form", {"runtime_mb": 65.4})  # fmt: skip
    found = {
        "input": [3, 8, 8], "params": 5, "macs": 7, "activations": 9, "size_mb": 1, "runtime": "r",
        "deploy": {"params": 5, "macs": 7}, "peak_memory_mb": 6.0, "batch": 1, "uncounted_ops": {},
        "latency_ms": energy.to_json(), "energy_mj": energy.to_json(),
        "peak_memory": memory.to_json(), "not_measured": {"layers": "no profiler"},
    }  # fmt: skip
    text = " ".join(printed(listings.profile_table("net", found)).split())
    assert "6.00 [5.50, 6.50] MB measured, untrained form, beyond the runtime's 65 MB" in text
    assert "2.00 [1.80, 2.20] mJ an image measured, untrained form, rapl package" in text
    assert "no layers" in text and "no profiler" in text


def test_a_prediction_names_the_facts_that_no_page_is_named_for() -> None:
    record = {"device": "h200", "unverified": ["memory_gb", "tdp_w"]}
    timing = Measurement("latency_ms", 4.0, "ms", 2.0, 8.0, 1.0, 0, "predicted", "transfer", record)
    found = {
        "input": [3, 8, 8], "params": 5, "macs": 7, "activations": 9, "size_mb": 1,
        "deploy": {"params": 5, "macs": 7}, "peak_memory_mb": 6.0, "batch": 1, "uncounted_ops": {},
        "peak_memory_basis": "activations, counted", "latency_ms": timing.to_json(),
    }  # fmt: skip
    text = printed(listings.profile_table("net", found))
    assert "no page named  for memory_gb, tdp_w of h200" in text


def test_layers_are_listed_slowest_first_with_how_the_times_came_about() -> None:
    layers = {
        "": {**COUNTS, "latency_ms": 0.5, "share": 1.0},
        "stem": {**COUNTS, "latency_ms": 0.1, "share": 0.2, "kernels": 1, "fused": []},
        "mixer": {**COUNTS, "latency_ms": 0.4, "share": 0.8, "kernels": 2, "fused": ["norm"]},
    }
    how = {"calls": 70, "ratio": 1.424, "overhead_us": 2.15, "scale": 0.99, "converged": True}
    found = {
        "input": [3, 8, 8], "params": 5, "macs": 7, "activations": 9, "size_mb": 1,
        "deploy": {"params": 5, "macs": 7}, "peak_memory_mb": 6.0, "batch": 1, "uncounted_ops": {},
        "peak_memory_basis": "activations, counted", "layers": layers, "by_layer": how,
    }  # fmt: skip
    text = printed(listings.profile_table("net", found))
    assert text.index("(whole)") < text.index("mixer") < text.index("stem")
    assert "0.4000" in text and "80.0" in text and "norm" in text
    assert "add up to 1.42 times the measured latency" in " ".join(text.split())
    assert "busy" not in text
    how["converged"] = False
    assert "The machine was busy meanwhile" in printed(listings.profile_table("net", found))


def test_an_export_is_listed_with_its_measurements() -> None:
    timing = Measurement("latency_ms", 4.0, "ms", 3.5, 4.5, 0.2, 99, "measured", "trained file")
    text = printed(listings.export_table({"file": "out/n.onnx", "latency_ms": timing.to_json()}))
    assert "out/n.onnx" in text
    assert "4.00 [3.50, 4.50] ms  measured, trained file" in text
