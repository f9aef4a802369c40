"""What a study says about its own space: what decides, and what tells early."""

from __future__ import annotations

from typing import Any

from nas.api.places import storage_url
from nas.catalog import load_space
from nas.report.correlations import correlations_document
from nas.report.importance import importance_document
from nas.store.store import Store


def importance(study: str, storage: str | None = None) -> dict[str, Any]:
    """Which decisions decide whether a network reaches the front.

    Returns: `study`, `front` (its trials), `networks`, and `rows` of `decision`, `share` (all add
    up to 1) and `active` (how many networks have it), the greatest share first.
    Raises: NasError for an unknown study, or one whose space is no longer found.
    """
    with Store(storage_url(storage), read_only=True) as store:
        spec, trials = store.spec(study), store.trials(study)
    return importance_document(load_space(spec.space, spec.network).at(spec.task), spec, trials)


def correlations(study: str, storage: str | None = None) -> dict[str, Any]:
    """How well sizes, zero-cost proxies and short trainings rank the final score.

    Returns: `study`, `score`, `trained`, and `rows` of `name`, `kind`, `n`, `tau`, `low`, `high`
    (Kendall's tau with 90 %), and `beyond_size`, the same after parameters and MACs are taken off.
    Raises: NasError for an unknown study.
    """
    with Store(storage_url(storage), read_only=True) as store:
        return correlations_document(store.spec(study), store.trials(study))
