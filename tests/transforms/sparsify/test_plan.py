from __future__ import annotations

import pytest

from nas.core.errors import NasError
from nas.transforms.sparsify import Plan


@pytest.mark.parametrize(
    "known, named",
    [
        ({"pattern": "1:3"}, "1:3"),
        ({"pattern": "channels", "allocation": "erkk"}, "erkk"),
        ({"pattern": "channels", "removed": 1.0}, "removed=1.0"),
        ({"pattern": "unstructured", "allocation": "precrop"}, "precrop .* unstructured"),
        ({"pattern": "channels", "allocation": "precrop", "timing": "acdc"}, "precrop .* acdc"),
        ({"pattern": "channels", "timing": "dst"}, "dynamic .* channels"),
        ({"pattern": "2:4", "timing": "dst"}, "dynamic .* 2:4"),
    ],
)
def test_what_excludes_each_other_is_named(known: dict[str, object], named: str) -> None:
    with pytest.raises(NasError, match=named):
        Plan(**known)
