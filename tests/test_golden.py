"""Numbers that must not move unnoticed: a run's hash covers SEMANTICS, this test SEMANTICS."""

import json

import golden
import pytest

from mytnano.config import BF16_SEMANTICS, SEMANTICS, RunConfig, semantics

MENDED_BY = "numbers moved: bump SEMANTICS in mytnano/config.py and run `python tests/golden.py`"
KNOWN = json.loads(golden.FILE.read_text())


def test_semantics_is_that_of_the_file():
    assert KNOWN["semantics"] == SEMANTICS, "run `python tests/golden.py`"
    assert KNOWN["losses"].keys() == golden.CONFIGS.keys(), MENDED_BY


def test_hashes_of_runs_in_fp32_are_those_of_the_published_ones():
    """Numbers that move in bf16 alone leave them as they are."""
    config = RunConfig()
    assert config.hash == "4a1779511a57"
    assert config.but(train={"precision": "bf16"}).hash == "d43044680933"
    assert (semantics("fp32"), semantics("bf16")) == (SEMANTICS, BF16_SEMANTICS)


def test_known_defaults_have_not_moved():
    """A run's hash leaves fields at their default out, so a default that moves would pass for the
    old one."""
    assert not golden.moved_defaults(KNOWN["defaults"]), MENDED_BY
    assert KNOWN["defaults"].keys() == golden.defaults().keys(), "run `python tests/golden.py`"


def test_a_moved_default_is_noticed():
    assert golden.moved_defaults({"model.layers": 5, "model.gone": 1}) == [
        "model.layers",
        "model.gone",
    ]


@pytest.mark.parametrize("name", golden.CONFIGS)
def test_losses_are_the_known_ones(name):
    now = golden.losses(name)
    assert not golden.moved(name, KNOWN["losses"][name], now), f"{MENDED_BY}\n{now}"


def test_a_small_move_is_noticed():
    name = "attention"
    known = KNOWN["losses"][name]
    assert golden.moved(name, known, [loss * (1 + 3e-5) for loss in known])
    assert golden.moved(name, known, [*known[:-1], float("nan")])
    assert not golden.moved(name, known, [loss * (1 + 3e-6) for loss in known])


def test_the_losses_are_of_models_that_learn():
    for name, known in KNOWN["losses"].items():
        assert known[-1] < 0.97 * known[0], name
