"""What the README says is true: its files work, its first command is whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_first_two_commands_install_search_and_test() -> None:
    first, second = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)[:2]
    assert first.count("\n") == second.count("\n") == 1
    assert first.index("torch==2.13.0") < first.index("-c constraints.txt -e .")
    assert "nas search --space largekernel --device cpu --data digits" in first
    assert "'.[test]' && pytest" in second


def test_every_dependency_but_torch_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    pinned = {line.partition("==")[0].lower().replace("_", "-")
              for line in (ROOT / "constraints.txt").read_text().splitlines()}  # fmt: skip
    names = {re.split(r"[><=\[]", text)[0].lower() for text in wanted}
    assert names - pinned == {"torch"}


def test_the_space_of_the_readme_builds_and_its_objective_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import torch

    from nas.catalog import load_objective, load_space
    from nas.core.task import TaskSpec
    from nas.evaluate.objectives import Candidate
    from nas.transforms.fold import fold

    [text] = [block for block in BLOCKS if "birdnet" in block]
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "birdnet.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    task = TaskSpec("digits", (3, 32, 32), 10)
    space = load_space("birdnet").at(task)
    assert space.size == 3 * 4 * (2 + 2)
    for architecture in [space.preset("small"), space.sample(np.random.default_rng(0))]:
        module = space.build(architecture.choices, task)
        deployed, _ = fold(module, task.input)
        assert deployed(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
        found = load_objective("birdnet:widest_layer")[1](
            Candidate(architecture.choices, task, module)  # type: ignore[arg-type]
        )
        assert found >= 16
