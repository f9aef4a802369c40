"""What training a chosen point to its end brought: read from a study's events, kept beside trials.

A front compares trainings of one length, so what `nas train` does to a few of its points changes
none of its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nas.core.measurement import Z90, Measurement
from nas.core.study import StudySpec
from nas.core.trial import Event, Trained


@dataclass(frozen=True)
class Finished:
    """A training that ran to its end.

    Args:
        weights: artifact of the trained module's state. file: of its deployed form.
        build: of that file. recipe: `nas.training.recipe.Strong` as JSON.
        began: the checkpoint it went on from. teacher: what it learnt from, or None.
        score, confirm, test: `{"score", "se", "n"}` of the file: on the validation images that the
            search ranked on, on those that it never did, and on the test images (`n` may be 0).
        seconds: how long it took.
    """

    trial: int
    weights: str
    file: str
    build: str
    recipe: Mapping[str, Any]
    began: str
    teacher: str | None
    score: Mapping[str, Any]
    confirm: Mapping[str, Any]
    test: Mapping[str, Any]
    seconds: float

    @property
    def epochs(self) -> int:
        """Passes over all training images, after the search's."""
        return int(self.recipe["epochs"])

    @property
    def trained(self) -> Trained:
        """The training as one of the search's is described."""
        s, c = self.score, self.confirm
        return Trained(
            0, self.file, s["score"], s["se"], s["n"], c["score"], c["se"], c["n"]
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The plain data that is stored, as an event's payload but for its `job`."""
        return {k: v for k, v in vars(self).items() if k != "trial"}


def finished(events: Iterable[Event]) -> dict[int, Finished]:
    """The last finished training of each trial that has one."""
    found = {}
    for event in events:
        payload = dict(event.payload)
        if payload.pop("job", None) == "finish" and "error" not in payload:
            found[event.trial] = Finished(event.trial, **payload)
    return found


def on_test_images(score: Mapping[str, Any], spec: StudySpec) -> Measurement | None:
    """A score on the test images with its 90 % confidence interval; None without test images.

    Of an accuracy it is Wilson's (1927), which stays inside 0 and 100 % and is right for shares
    near them; of any other score the value and 1.645 standard errors.
    """
    n = int(score["n"])
    if not n:
        return None
    value, se = float(score["score"]), float(score["se"])
    task = spec.task
    low, high, kind = value - Z90 * se, value + Z90 * se, "normal"
    if (task.score_name, task.score_unit) == ("accuracy", "%"):
        low, high = (100 * bound for bound in wilson(value / 100, n))
        kind = "Wilson"
    record = {"split": "test", "images": n, "interval": f"{kind}, 90 % confidence"}
    return Measurement(
        task.score_name, value, task.score_unit, low, high, se, n, "measured", "test images", record
    )


def wilson(share: float, n: int, z: float = Z90) -> tuple[float, float]:
    """Wilson's score interval of a share of n.

    >>> [round(bound, 4) for bound in wilson(0.9, 100, 1.96)]
    [0.8256, 0.9448]
    """
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)
