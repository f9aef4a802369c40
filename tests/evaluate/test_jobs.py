"""What a build says, and what a training step here keeps off: timings of this host, and more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import onnx
import pytest
from conftest import toy_spec
from onnx_networks import mixed

from nas import evaluate
from nas.core.architecture import Architecture
from nas.core.fidelity import Fidelity
from nas.core.job import Build, Finish, Measure, Source, Train, Workload, job_to_json
from nas.core.measurement import Measurement
from nas.core.objective import BUILTIN, Constraint
from nas.deploy.parity import THRESHOLDS
from nas.evaluate import place as place_module
from nas.evaluate import timing
from nas.evaluate.place import Place
from nas.hardware.device import Device, host_fingerprint
from nas.hardware.lease import Lease
from nas.hardware.ssh import Unreachable
from nas.store.artifacts import Artifacts
from nas.training.proxies import NAMES
from nas.training.recipe import Recipe, Strong
from nas.training.tasks import describe

THIN = """
from nas import Choice, SearchSpace

def build(choices, task):
    from torch import nn
    width = choices["width"]
    return nn.Sequential(nn.Conv2d(3, width, 3, stride=4), nn.BatchNorm2d(width), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, task.outputs))

space = SearchSpace("thin", [Choice("width", [4, 8])], build)
"""
POOLS = """
def pool(width):  # the wider network knows the size of its last map
    from torch import nn
    return [nn.AdaptiveAvgPool2d(1)] if width == 4 else [nn.Flatten(2),
        nn.Unflatten(2, (8, 8)), nn.AdaptiveAvgPool2d(1)]

"""
SPEC = toy_spec(objectives=(BUILTIN["accuracy"], BUILTIN["latency_ms"]))


def of_file(folder: Path, name: str, source: str, space: str, **changes: Any) -> Place:
    """Where a brief study of a user's own network, written there, is done."""
    (folder / f"{name}.py").write_text(source)
    spec = replace(
        SPEC, space=space, network=f"{name}:network", task=describe("digits"), proxies=False,
        recipe=Recipe().to_json(), fidelity=Fidelity(epochs=1, data=0.05), **changes,
    )  # fmt: skip
    return Place(spec, Artifacts(folder / "artifacts"), folder / "locks")


def built(place: Place, architecture: Architecture) -> dict[str, Any]:
    """What building trial 0 brings."""
    job: Any = Build(0, architecture)
    outcome = evaluate.perform(place, job_to_json(job), lambda rung, values: "go on")
    assert outcome["error"] is None
    found: dict[str, Any] = outcome["values"]
    return found


def seats(folder: Path, device: str, *limits: str) -> list[str]:
    spec = replace(SPEC, device=device, constraints=tuple(map(Constraint.parse, limits)))
    return [lease.device for lease in Place(spec, Artifacts(folder), folder / "locks").leases]


def test_profiles_of_one_processor_share_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hardware_profiles").mkdir()
    (tmp_path / "hardware_profiles" / "two.toml").write_text('kind = "cpu"\nthreads = 2\n')
    assert seats(tmp_path, "cpu") == seats(tmp_path, "two") == ["cpu"]
    assert seats(tmp_path, "cpu", "latency_ms@two<=1") == ["cpu"]


@pytest.mark.parametrize(
    ("objective", "limits", "batch"),
    [
        ("latency_ms", (), 1),
        ("macs", (), 1),
        ("latency_ms", ("latency_ms:b64<=9", "latency_ms:b8<=5"), 64),
        ("size_mb", (), None),
        ("latency_ms", ("size_mb<=3",), None),
    ],
)
def test_transforms_know_what_is_timed_in_one_call_where_bytes_do_not_count(
    objective: str, limits: tuple[str, ...], batch: int | None, tmp_path: Path
) -> None:
    spec = replace(
        SPEC, objectives=(BUILTIN[objective],), constraints=tuple(map(Constraint.parse, limits)),
        space="resnet", task=describe("digits"), recipe=Recipe().to_json(),
    )  # fmt: skip
    place = Place(spec, Artifacts(tmp_path), tmp_path / "locks")
    point = place.space.repair({})
    assert place.pipeline(point).given.batch == batch


def test_a_step_runs_on_the_processor_whatever_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seats(tmp_path, "a100") == ["cpu"]  # predicted: nothing of it to keep off
    assert seats(tmp_path, "ssh://kitchen/cpu") == ["cpu"]
    monkeypatch.setattr(place_module, "attached", lambda device: True)
    assert seats(tmp_path, "a100") == ["cpu", "cuda"]


def test_what_is_measured_besides_time_is_of_each_file_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, beats = [], []

    def energy(file: Path, device: Device, lease: Lease, workload: Workload, basis: str) -> Any:
        asked.append((file.name, lease.device, basis))
        if len(asked) == 2:
            return "it cannot be told from idle"
        return Measurement("energy_mj", 2.0, "mJ", 1.0, 3.0, 0.5, 5, "measured", basis)

    monkeypatch.setitem(timing.PROBES, "energy_mj", energy)
    place = Place(SPEC, Artifacts(tmp_path), tmp_path / "locks", lambda: beats.append(1))
    files = ("1" * 64 + ".onnx", "2" * 64 + ".onnx")
    job = Measure((4, 7), "trained", files, ("a", "b"), "cpu", objective="energy_mj")
    found = timing.time_files(place, job).values["measurements"]
    assert asked == [(name, "cpu", "trained file") for name in files]
    assert found["4"]["objective"] == "energy_mj"
    assert found["7"] == {"error": "it cannot be told from idle"}
    assert len(beats) == 2
    (tmp_path / files[0]).write_bytes(b"no longer what its name says")
    asked.clear()
    found = timing.time_files(place, job).values["measurements"]
    assert "not what was recorded" in found["4"]["error"]
    assert [name for name, _, _ in asked] == [files[1]] and found["7"]["objective"] == "energy_mj"
    away = replace(job, device="a100")
    assert "not predicted" in timing.time_files(place, away).values["measurements"]["4"]["error"]


def test_what_cannot_be_predicted_says_why_and_fails_alone(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    good = artifacts.put(mixed(artifacts.scratch() / "network.onnx"))
    scrap = artifacts.scratch() / "scrap.onnx"
    scrap.write_bytes(b"no network")
    job = Measure((4, 7), "untrained", (good, artifacts.put(scrap)), ("a", "b"), "a100")

    def found(work: Workload, *limits: str) -> dict[str, Any]:
        spec = replace(SPEC, device="a100", constraints=tuple(map(Constraint.parse, limits)))
        place = Place(spec, artifacts, tmp_path / "locks")
        done = timing.time_files(place, replace(job, workload=work))
        return cast(dict[str, Any], done.values["measurements"])

    alone = found(Workload(), "latency_ms.p99:b8<=2", "latency_ms.p99@cpu<=2", "latency_ms<=2")
    assert alone["4"]["source"] == "predicted"
    assert "not an ONNX file" in alone["7"]["error"]
    tail = found(Workload(), "latency_ms.p99<=2")
    assert "quantiles are not predicted" in tail["4"]["error"]
    assert "callers at once are not predicted" in found(Workload(streams=4))["4"]["error"]


@pytest.mark.slow
def test_another_side_is_timed_of_a_file_made_for_it_and_one_that_cannot_be_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    fixed = THIN.replace("nn.AdaptiveAvgPool2d(1)", "*pool(width)").replace(
        "def build", POOLS + "def build"
    )
    (tmp_path / "search_spaces" / "thin.py").write_text(fixed)
    timed: list[list[int]] = []

    def timings(files: Any, *given: Any, basis: str) -> list[Any]:
        shapes = [onnx.load(str(f)).graph.input[0].type.tensor_type.shape for f in files]
        timed.extend([d.dim_value for d in shape.dim[1:]] for shape in shapes)
        taken = Measurement("latency_ms", 2.0, "ms", 1.0, 3.0, 0.5, 5, "measured", basis)
        return [taken for _ in files]

    monkeypatch.setattr(timing, "timings", timings)
    spec = replace(SPEC, space="thin", task=describe("digits"), recipe=Recipe().to_json())
    place = Place(spec, Artifacts(tmp_path / "artifacts"), tmp_path / "locks")
    sources = tuple(Source(Architecture("thin", {"width": width})) for width in (4, 8))
    files = ("1" * 64 + ".onnx", "2" * 64 + ".onnx")
    job = Measure((4, 7), "untrained", files, ("a", "b"), "cpu", Workload(1, 48), sources=sources)
    found = timing.time_files(place, job).values["measurements"]
    assert timed == [[3, 48, 48]]
    assert found["4"]["value"] == 2.0
    assert found["7"]["error"].startswith("trial 7 takes no inputs of 48x48")


BOARD = """
kind = "cpu"
names = ["{}"]

[facts]
fp32_tflops = {{ value = 0.1, source = "x" }}
bandwidth_gbs = {{ value = 10, source = "x" }}
"""


def timed_on_a_board(folder: Path, processor: str, stands: dict[str, str]) -> dict[str, Any]:
    """The outcome of a measurement on a board that is known by the name of its processor."""
    (folder / "hardware_profiles").mkdir()
    (folder / "hardware_profiles" / "board.toml").write_text(BOARD.format(processor))
    artifacts = Artifacts(folder / "artifacts")
    file = artifacts.put(mixed(artifacts.scratch() / "network.onnx"))
    job = job_to_json(Measure((4,), "untrained", (file,), ("a",), "board"))
    place = Place(replace(SPEC, device="board"), artifacts, folder / "locks", stands=stands)
    return evaluate.perform(place, job, lambda rung, values: "go on")


@pytest.mark.parametrize(
    ("stands", "source"),
    [({}, "measured"), ({"board": "here"}, "measured"), ({"board": "away"}, "predicted")],
)
def test_a_device_that_is_said_to_be_away_is_predicted_and_the_number_says_so(
    stands: dict[str, str], source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taken = Measurement("latency_ms", 2.0, "ms", 1.0, 3.0, 0.5, 5, "measured", "untrained form")
    monkeypatch.setattr(timing, "timings", lambda files, *given, basis: [taken for _ in files])
    outcome = timed_on_a_board(tmp_path, host_fingerprint()["processor"], stands)
    assert outcome["error"] is None
    [found] = outcome["values"]["measurements"].values()
    assert found["source"] == source
    assert found["basis"] == ("datasheet" if source == "predicted" else "untrained form")


def test_a_node_that_is_named_for_a_device_it_lacks_refuses_and_predicts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = timed_on_a_board(tmp_path, "no such board", {"board": "here"})
    assert "offers board to the cluster, but has" in outcome["error"]
    assert not outcome["values"]


def test_a_host_that_is_gone_halts_the_search_and_fails_no_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(place: object, job: object, report: object) -> None:
        raise Unreachable("no connection to kitchen", "is it switched on?")

    monkeypatch.setattr(evaluate, "_work", gone)
    job = job_to_json(Measure((0,), "untrained", ("a",), ("b",), "ssh://kitchen/cpu"))
    place = Place(SPEC, Artifacts(tmp_path), tmp_path / "locks")
    outcome = evaluate.perform(place, job, lambda rung, values: "go on")
    assert outcome["error"] is None and outcome["halt"].startswith("no connection to kitchen")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "there"),
    [({}, True), ({"proxies": False}, False), ({"objectives": (BUILTIN["macs"],)}, False)],
)
def test_a_build_says_what_proxies_are_where_the_study_asks_and_trains(
    changes: dict[str, Any], there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "thin.py").write_text(THIN)
    spec = replace(
        SPEC, space="thin", task=describe("digits"), recipe=Recipe().to_json(), **changes
    )
    place = Place(spec, Artifacts(tmp_path / "artifacts"), tmp_path / "locks")
    job = job_to_json(Build(0, Architecture("thin", {"width": 4})))
    outcome = evaluate.perform(place, job, lambda rung, values: "go on")
    assert outcome["error"] is None
    found = outcome["values"]
    assert ("proxies" in found) == there
    if there:
        assert {"synflow", "naswot", "zen", "grad_norm"} <= set(found["proxies"])
        assert set(found["undefined"]) == {
            "az_expressivity", "az_progressivity", "az_trainability",
        }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "blind"),
    [
        ({}, None),
        ({"bitwidth.weights": "int8"}, "bitwidth"),
        ({"adapter.method": "ssf"}, "adapter"),
        ({"adapter.method": "ssf", "bitwidth.weights": "int8"}, "adapter and bitwidth"),
    ],
)
def test_no_proxy_is_defined_where_axes_choose_what_proxies_cannot_see(
    chosen: dict[str, Any], blind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "thin.py").write_text(THIN)
    spec = replace(
        SPEC, space="thin+adapter+bitwidth", task=describe("digits"), recipe=Recipe().to_json()
    )
    place = Place(spec, Artifacts(tmp_path / "artifacts"), tmp_path / "locks")
    choices = {"width": 4, "adapter.method": "none", "bitwidth.weights": "fp32", **chosen}
    job = job_to_json(Build(0, place.space.repair(choices)))
    outcome = evaluate.perform(place, job, lambda rung, values: "go on")
    assert outcome["error"] is None
    found = outcome["values"]
    if blind is None:
        assert "grad_norm" in found["proxies"]
    else:
        assert found["proxies"] == {} and set(found["undefined"]) == set(NAMES)
        assert all(f"not what {blind} chose" in why for why in found["undefined"].values())


BLOCKS = """
import torch
from torch import nn

class Network(nn.Module):
    # norms that are called apart from their convolutions stay in the exported graph
    def __init__(self, outputs):
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self.second = nn.Conv2d(32, 32, 3, 2, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(32), nn.BatchNorm2d(32)
        self.head = nn.Linear(32, outputs)

    def forward(self, x):
        x = torch.relu(self.norm1(self.first(x)))
        return self.head(torch.relu(self.norm2(self.second(x))).mean((2, 3)))

def network(task):
    return Network(task.outputs)
"""


@pytest.mark.slow
def test_a_sparse_network_in_int8_is_trained_and_shipped_as_the_graph_that_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    objectives = (BUILTIN["accuracy"], BUILTIN["size_mb"])
    place = of_file(tmp_path, "blocks_of_two", BLOCKS, "sparsity+bitwidth", objectives=objectives)
    spec = place.spec
    wanted = {
        "sparsity.pattern": "channels", "sparsity.removed": 0.75, "sparsity.schedule": "start",
        "sparsity.allocation": "global", "bitwidth.weights": "int8", "bitwidth.method": "qat",
    }  # fmt: skip
    architecture = place.space.repair(wanted)
    assert wanted.items() <= architecture.choices.items()
    made, last = built(place, architecture), len(spec.fidelity.rungs) - 1
    job: Any = Train(0, architecture, made["build"], made["file"], 1, 0, from_rung=-1, to_rung=last)
    trained = evaluate.perform(place, job_to_json(job), lambda rung, values: "go on")
    assert trained["error"] is None
    parity = trained["values"]["parity"]
    assert parity["passed"] and parity["threshold"] == THRESHOLDS["codes"]  # its steps are learned


OTHERWISE = """
import torch
from torch import nn

class Network(nn.Module):
    # what is exported is not what is trained
    def __init__(self, outputs):
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3, 4), nn.Linear(8, outputs)

    def forward(self, x):
        found = self.head(torch.relu(self.first(x)).mean((2, 3)))
        return 2 * found if torch.compiler.is_compiling() else found

def network(task):
    return Network(task.outputs)
"""


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_a_file_that_says_something_else_than_its_network_is_refused_whoever_trained_it(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    place = of_file(tmp_path, "otherwise", OTHERWISE, "bitwidth")
    spec = place.spec
    architecture = place.space.repair({"bitwidth.weights": weights})
    made = built(place, architecture)
    last, kept = len(spec.fidelity.rungs) - 1, []
    train = Train(0, architecture, made["build"], made["file"], 1, 0, from_rung=-1, to_rung=last)
    trained = evaluate.perform(
        place, job_to_json(train), lambda rung, values: kept.append(values) or "go on"
    )
    recipe = Strong(1, precision="float32").to_json()
    finish = Finish(0, architecture, kept[-1]["checkpoint"], recipe, "kept")
    finished = evaluate.perform(place, job_to_json(finish), lambda rung, values: "go on")
    for outcome in (trained, finished):
        said = str(outcome["error"])
        assert "differs from the trained network: largest difference 1 of" in said, said


SMALL = """
from torch import nn

def network(task):
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, task.outputs))
"""


@pytest.mark.slow
def test_a_training_whose_checkpoint_is_lost_or_damaged_begins_again_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    objectives = (BUILTIN["accuracy"], BUILTIN["size_mb"])
    place = of_file(tmp_path, "small_one", SMALL, "bitwidth", objectives=objectives)
    fidelity = Fidelity(epochs=2, reduction=2, data=0.05)
    place = Place(replace(place.spec, fidelity=fidelity), place.artifacts, tmp_path / "locks")
    architecture = place.space.repair({"bitwidth.weights": "fp32"})
    made = built(place, architecture)
    rungs: list[tuple[int, Any]] = []

    def trained(from_rung: int, checkpoint: str | None = None) -> Any:
        rungs.clear()
        job: Any = Train(0, architecture, made["build"], made["file"], 1, 0, from_rung, 1,
                         checkpoint)  # fmt: skip
        return evaluate.perform(
            place, job_to_json(job), lambda rung, values: rungs.append((rung, values)) or "go on"
        )

    whole = trained(-1)
    first = rungs[0][1]["checkpoint"]
    assert [rung for rung, _ in rungs] == [0, 1] and whole["error"] is None
    left = place.artifacts.path(first)
    for spoil in (lambda: None, lambda: left.write_bytes(b"something else"), left.unlink):
        spoil()
        again = trained(0, first)
        assert [rung for rung, _ in rungs] == [1] and again["error"] is None
        assert again["values"] == whole["values"]
        if not left.exists():
            left.write_bytes(b"")
