import os

import pytest

from nas.hardware.agent import host
from nas.hardware.agent.host import environment, limits, megahertz, pin, state, throttling


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def test_a_container_with_a_quota(tmp_path):
    write(tmp_path, cpu_max="150000 100000\n", cpu_stat="usage_usec 5\nnr_throttled 12\n")
    assert limits(tmp_path, "0::/\n") == (1.5, 12)


def test_the_innermost_quota_counts(tmp_path):
    write(tmp_path / "a", cpu_max="200000 100000", cpu_stat="nr_throttled 3")
    write(tmp_path / "a/b", cpu_max="max 100000", cpu_stat="nr_throttled 9")
    assert limits(tmp_path, "1:name=x:/y\n0::/a/b") == (2.0, 3)


def test_version_1(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("50000")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    (tmp_path / "cpu/cpu.stat").write_text("nr_periods 4\nnr_throttled 2\nthrottled_time 77")
    assert limits(tmp_path, "4:cpu:/x") == (0.5, 2)


@pytest.mark.parametrize("maximum", ["max 100000", None])
def test_no_quota(tmp_path, maximum):
    if maximum:
        write(tmp_path, cpu_max=maximum, cpu_stat="nr_throttled 4")
    assert limits(tmp_path, "0::/") == (None, None)


def test_clocks_are_the_governors_where_the_processor_says_none(tmp_path):
    for core, khz in [("cpu0", "2400000"), ("cpu1", "1500000"), ("cpufreq", "7")]:
        write(tmp_path / core / "cpufreq")
        (tmp_path / core / "cpufreq/scaling_cur_freq").write_text(khz)
    assert megahertz("CPU part\t: 0xd0c\n", tmp_path) == [1500.0, 2400.0]
    assert megahertz("cpu MHz\t\t: 3100.5\ncpu MHz\t\t: 800\n", tmp_path) == [800.0, 3100.5]
    assert megahertz("", tmp_path / "none") == []


def test_throttling_is_what_grew():
    early = {"power_held_ms": 10, "heat_held_ms": None, "throttled": ["power cap"]}
    late = {"power_held_ms": 14, "heat_held_ms": None, "throttled": ["power brake"]}
    before = {"throttles": {"quota": 5, "heat": 1}, "gpu": early}
    after = {"throttles": {"quota": 5, "heat": 3}, "gpu": late}
    assert throttling(before, after) == [
        "the processor was too hot 2 times",
        "the GPU's clock was held down for its power, 4 ms",
        "GPU: power brake",
    ]
    assert throttling(before, before) == ["GPU: power cap"]
    assert throttling({"throttles": {}, "gpu": None}, {"throttles": {}, "gpu": None}) == []


def test_pinned_where_cores_are_named():
    before = os.sched_getaffinity(0)
    try:
        pin([])
        assert os.sched_getaffinity(0) == before
        pin([min(before)])
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)
    with pytest.raises(SystemExit, match="cores \\[9999\\] are asked for"):
        pin([9999])


def test_the_hottest_zone_and_the_mains_are_in_the_state(tmp_path, monkeypatch):
    for place, (name, text) in enumerate([("temp", "41000"), ("temp", "93500"), ("temp", "")]):
        write(tmp_path / f"heat/thermal_zone{place}", **{name: text})
    write(tmp_path / "power/AC", online="0")
    monkeypatch.setattr(host, "HEAT", tmp_path / "heat")
    monkeypatch.setattr(host, "POWER", tmp_path / "power")
    found = state()
    assert found["celsius"] == 93.5 and found["mains"] is False
    assert {"governor", "boost", "mode", "quota", "load", "gpu"} <= set(found)
    monkeypatch.setattr(host, "POWER", tmp_path / "none")
    assert state()["mains"] is None


def test_what_the_environment_tells_a_runtime_is_known_and_no_secret_is():
    told = {"LD_PRELOAD": "libjemalloc.so", "NVIDIA_TF32_OVERRIDE": "1", "KMP_AFFINITY": "none"}
    others = {"AWS_SECRET_ACCESS_KEY": "x", "TORCH_HOME": "/y", "CUDA_VISIBLE_DEVICES": "1",
              "TORCHINDUCTOR_CACHE_DIR": "/z"}  # fmt: skip
    assert environment(told | others) == told
