from dataclasses import replace

import pytest

from nas import api, profiling
from nas.catalog import load_space
from nas.core.errors import NasError
from nas.core.task import TaskSpec
from nas.hardware.device import parse

TASK = TaskSpec("digits", (3, 16, 16), 10)
CPU = parse('title = "this host"\nkind = "cpu"', "cpu")
KEYS = ("params", "macs", "activations")


def profiled(device, by_layer=True, batch=1):
    space = load_space("largekernel").at(TASK)
    return profiling.profile_architecture(
        space, None, TASK, device=device, batch=batch, by_layer=by_layer
    )


def test_without_a_device_all_is_counted():
    found = profiled(None)
    assert found["peak_memory_mb"] == found["peak_activations_mb"] > 0
    assert profiled(None, batch=8)["peak_memory_mb"] == pytest.approx(8 * found["peak_memory_mb"])
    assert not {"latency_ms", "peak_memory", "energy_mj", "not_measured", "by_layer"} & set(found)
    rows = dict(found["layers"])
    whole = rows.pop("")
    for key in KEYS:
        assert sum(row[key] for row in rows.values()) == whole[key]
    assert whole["macs"] <= found["deploy"]["macs"]


@pytest.mark.slow
def test_on_this_host_the_timed_form_is_measured_and_broken_down(tmp_path, monkeypatch):
    monkeypatch.setattr(profiling, "default_folder", lambda: tmp_path)
    monkeypatch.setattr(profiling, "unreadable", lambda device: "no counter here")
    found = profiled(CPU)
    assert found["not_measured"] == {"energy_mj": "no counter here"}
    assert "energy_mj" not in found
    assert found["peak_memory_mb"] == found["peak_memory"]["value"]
    assert found["peak_memory"]["source"] == "measured"
    rows, how = dict(found["layers"]), found["by_layer"]
    whole = rows.pop("")
    for key in KEYS:
        assert sum(row[key] for row in rows.values()) == whole[key]
    latency = found["latency_ms"]["value"]
    assert whole["latency_ms"] == latency
    total = sum(row["latency_ms"] for row in rows.values())
    assert total == pytest.approx(latency, rel=how["tolerance"])
    assert "head.linear" in rows and any(name.startswith("stem.") for name in rows)


@pytest.mark.slow
def test_a_device_that_is_not_here_is_predicted_and_so_are_its_layers():
    absent = replace(CPU, name="far", names=("a processor that nobody has",))
    absent = replace(absent, facts=parse(FACTS, "far").facts)
    found = profiled(absent)
    assert found["latency_ms"]["source"] == "predicted"
    assert "peak_memory" not in found and not found.get("not_measured")
    rows, how = dict(found["layers"]), found["by_layer"]
    whole = rows.pop("")
    assert how["calls"] == 0 and how["converged"] and how["overhead_us"] == 0
    assert whole["latency_ms"] == found["latency_ms"]["value"]
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    heavy = max(rows, key=lambda name: rows[name]["macs"])
    assert rows[heavy]["share"] > 0.5 / len(rows) and rows[heavy]["kernels"] >= 1


FACTS = """
kind = "cpu"
[facts]
fp32_tflops = { value = 0.1, source = "a test" }
bandwidth_gbs = { value = 20, source = "a test" }
"""


def test_what_ones_own_code_raises_is_told_with_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raising.py").write_text(
        "from torch import nn\n\n\ndef no(task):\n    raise ValueError('boom')\n\n\n"
        "def narrow(task):\n    return nn.Conv2d(7, 8, 3)\n"
    )
    with pytest.raises(NasError, match="raising:no makes no network: ValueError: boom") as error:
        api.profile("raising:no", "cpu", static=True)
    assert f"{tmp_path / 'raising.py'}, line 5: `raise ValueError('boom')`" in error.value.hint
    with pytest.raises(NasError, match="does not run on an input of 3 x 16 x 16"):
        api.profile("raising:narrow", "cpu", static=True, resolution=16)
