from nas.report.networks import describe, grouped, telling


def test_a_stage_without_the_decision_shows_a_dash() -> None:
    choices = {"stages.0.kernel": 3, "stages.1.kernel": 7, "stages.0.dilation": 2}
    assert grouped(choices) == {"dilation": "2/-", "kernel": "3/7"}


def test_names_that_end_alike_keep_their_paths() -> None:
    choices = {"stem.norm": "batch", "head.norm": "layer", "stages.0.norm": "none"}
    assert grouped(choices) == {"head.norm": "layer", "stages.norm": "none", "stem.norm": "batch"}


def test_what_differs_comes_first() -> None:
    many = [{"a": 1, "b": 2, "c": 1}, {"a": 1, "b": 3, "c": 2}, {"a": 1, "b": 4, "c": 2}]
    assert telling(many) == ["b", "c", "a"]
    assert describe(many[0], telling(many)) == "b 2  c 1  a 1"
    assert describe(many[0], ["absent"]) == "a 1  b 2  c 1"
