"""The simulation that is published, in small, and the tables that are made of it."""

import json

import numpy as np
import pytest
from docs_toys import ROOT, make_tree
from generator import verdicts
from generator.tables import Project
from simulate import (
    MARGIN,
    called_equivalent,
    false_differences,
    main,
    planted,
    smallest_p,
)
from simulate import study as simulated

from mytnano.stats import Pairs, Rule, eprocess, fixed, judge, verdict
from mytnano.stats.differences import percent

EXPERIMENTS = 400


@pytest.fixture(scope="module")
def study():
    return simulated(EXPERIMENTS)


def test_a_study_is_the_same_every_time(study):
    again = false_differences(EXPERIMENTS)
    assert again == study["different"]
    assert planted(EXPERIMENTS) == study["planted"]
    json.dumps(study, allow_nan=False)


def test_the_rule_is_wrong_at_most_alpha_of_the_time_and_peeking_t_tests_more(study):
    kinds = ("normal", "uniform", "Laplace")
    rows = [row for row in study["different"] if row["noise"] in kinds]
    for row in [*rows, *study["families"], *study["equivalent"]]:
        assert row["low"] <= row["wrong"] / EXPERIMENTS <= row["high"]
        assert row["low"] <= row["alpha"], row
    for row in study["peeking_t"]:
        assert row["low"] > row["alpha"]


@pytest.fixture
def said(monkeypatch):
    """Whether ``judge`` gives any arm one of these verdicts at any look at (arms, looks)."""
    for module, name, value in (  # for show only, and slow
        (fixed, "sign_flip", 1.0),
        (fixed, "paired_t", (1.0, None)),
        (verdict, "minimum_detectable", 1.0),
        (verdict, "pairs_for", None),
    ):
        monkeypatch.setattr(module, name, lambda *_, value=value: value)

    def at_any_look(d, rule, *verdicts):
        arms = np.exp(d / 100)
        looks = range(eprocess.FEWEST, d.shape[-1] + 1)
        return any(
            found.verdict in verdicts
            for n in looks
            for found in judge([Pairs("x", arm[:n], np.ones(n)) for arm in arms], rule)
        )

    return at_any_look


def test_what_is_simulated_is_what_the_rule_says(said):
    alpha, rng = 0.2, np.random.default_rng(5)
    margin = Rule(alpha=alpha, margin=percent(MARGIN))
    near = MARGIN * (np.linspace(0.4, 1, 100)[:, None] + rng.standard_normal((100, 12)) / 4)
    flags = called_equivalent(near, alpha)
    assert 20 < flags.sum() < 80
    assert [said(d[None], margin, "equivalent") for d in near] == flags.tolist()

    runs = rng.standard_normal((100, 4, 10))
    runs[:, 1] += np.linspace(0, 2, 100)[:, None]  # from equal arms to one that is found
    families = runs[:, 1:] - runs[:, :1]
    narrow = Rule(alpha=alpha, margin=1e-6)
    flags = smallest_p(families) <= alpha
    assert 20 < flags.sum() < 80
    assert [said(d, narrow, "better", "worse") for d in families] == flags.tolist()


def test_larger_effects_and_more_pairs_are_found_sooner(study):
    for row in study["planted"]:
        assert list(row["found"].values()) == sorted(row["found"].values())
    by_effect = {row["effect"]: row for row in study["planted"] if row["g"] == 1.0}
    assert by_effect[0.5]["found"]["16"] < by_effect[1.0]["found"]["16"] < 1.0
    assert by_effect[2.0]["found"]["16"] > 0.95 and by_effect[2.0]["median"] < 12


def test_the_tables_show_the_study(study, tmp_path):
    tree = make_tree(tmp_path / "tree")
    file = tree / verdicts.FILE
    assert main([str(file), "100"]) == 0
    file.write_text(json.dumps(study | {"environment": {"commit": "0123abc"}}))
    for region in (verdicts.errors, verdicts.planted, verdicts.detectable):
        text = region(Project(tree))
        assert "commit `0123abc`" in text and "after every pair from 3 to 64" in text
    row = study["different"][0]
    share = f"{100 * row['wrong'] / EXPERIMENTS:.1f}\u202f%"
    assert f"| equal arms called different | normal, g = 1 | 0.05 | 400 | {share} |" in (
        verdicts.errors(Project(tree))
    )
    assert "| `G` | 1.0 | `stats.eprocess` |" in verdicts.constants(Project(tree))


def test_without_a_study_the_command_is_named(tmp_path):
    for region in (verdicts.errors, verdicts.planted, verdicts.detectable):
        assert "`scripts/simulate.py`" in region(Project(tmp_path))


@pytest.mark.parametrize("words", [["one"], ["a", "b"], ["a", "1", "2"]])
def test_the_script_explains_itself(words, capsys):
    assert main(words) == 2
    assert "python scripts/simulate.py" in capsys.readouterr().err


def test_the_published_study_is_large_enough_and_holds_alpha():
    path = ROOT / verdicts.FILE
    if not path.exists():
        pytest.skip("not published in this tree")
    study = json.loads(path.read_text(encoding="utf-8"))
    normal = [row for row in study["different"] if row["noise"] == "normal"]
    for row in [*normal, *study["families"], *study["equivalent"]]:
        assert row["experiments"] >= 10_000 and row["high"] <= row["alpha"], row
