from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nas.hardware.agent.engines import load, versions
from nas.hardware.agent.engines import torch as engine
from nas.hardware.runtimes import parse
from nas.hardware.runtimes.torch import write

JOB = {"runtime": "torch", "options": [], "kind": "cpu", "threads": 1, "batch": 2,
       "resolution": None}  # fmt: skip
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def saved(path, text="torch", kind="cpu", width=8):
    module = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten()).eval()
    write(module, (3, 8, 8), path, parse(text, kind))
    return str(path)


def test_a_call_takes_longer_for_a_larger_network(tmp_path):
    small = load(saved(tmp_path / "small.pt2"), JOB)
    large = load(saved(tmp_path / "large.pt2", width=2048), JOB)
    least = [min(each.call() for _ in range(30)) for each in (small, large)]
    assert 0 < 2 * least[0] < least[1]
    assert versions(JOB)["torch"] == torch.__version__


def test_the_input_has_the_jobs_batch(tmp_path):
    _, spec = engine.program(saved(tmp_path / "n.pt2"), "cpu")
    assert spec.shape[1:] == [3, 8, 8] and isinstance(spec.shape[0], str)
    with pytest.raises(ValueError, match="fixed at"):
        load(saved(tmp_path / "n.pt2"), JOB | {"resolution": 16})


class Event:
    """Stands in for a CUDA event: notes what happens, and when by a clock of whole milliseconds."""

    now, story = 0, []

    def record(self):
        Event.now += 1
        self.at = Event.now
        Event.story.append("record")

    def synchronize(self):
        Event.story.append("wait")

    def elapsed_time(self, other):
        return other.at - self.at


def test_events_stand_around_the_call_and_the_last_is_waited_for(monkeypatch):
    Event.story = []
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Event())
    call = engine.clock(lambda: Event.story.append("run"), JOB | {"kind": "cuda"})
    assert [call(), call()] == [1000.0, 1000.0]
    assert Event.story == ["record", "run", "record", "wait"] * 2


def test_a_graph_is_captured_once_and_replayed(monkeypatch):
    story = []

    class Context:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            story.append(f"{self.name} begins")

        def __exit__(self, *error):
            story.append(f"{self.name} ends")

    waiting = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: waiting)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: waiting)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: Context("warm-up"))
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: Context("capture"))
    graph = SimpleNamespace(replay=lambda: story.append("replay"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Event())
    job = JOB | {"kind": "cuda", "options": ["graphs"]}
    call = engine.clock(lambda: story.append("run"), job)
    call()
    assert story == [
        "warm-up begins", "run", "run", "run", "warm-up ends",
        "capture begins", "run", "capture ends", "replay",
    ]  # fmt: skip


@cuda
@pytest.mark.parametrize(
    "text", ["torch", "torch:bf16", "torch:channels_last+fp16", "torch:graphs"]
)
def test_a_cuda_device_times_and_answers(tmp_path, text):
    options = list(parse(text, "cuda").options)
    job = JOB | {"kind": "cuda", "options": options}
    path = saved(tmp_path / "n.pt2", text, "cuda")
    timed = load(path, job)
    assert all(0 < timed.call() < 1e6 for _ in range(20))
    given = torch.randn(2, 3, 8, 8)
    answers = [engine.program(path, kind)[0](given.to(kind)).cpu() for kind in ("cpu", "cuda")]
    assert torch.allclose(*answers, rtol=5e-2, atol=5e-2)
