"""What is said about an arm, and how its numbers are written."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_toys import make_row

from mytnano import words
from mytnano.designs.rungs import KNOWN, RUNGS, difference
from mytnano.report import compare
from mytnano.report.data import Arm, Run
from mytnano.report.defects import DEFECTS
from mytnano.svg import power_of_ten, spread


def arm(id, scores, statuses=None):
    rows = [
        {**make_row(id, seed), "test_bpb": score, "status": (statuses or {}).get(seed, "healthy")}
        for seed, score in enumerate(scores)
    ]
    return Arm(RUNGS[id], [Run(row) for row in rows])


def test_pairs_are_by_seed_and_void_if_either_is_not_healthy():
    own, parent = arm("residual", [2.0, 2.1, 2.2]), arm("stack", [3.0, 3.3], {1: "collapsed"})
    pairs = compare.pairs(own, parent)
    assert [pair.seed for pair in pairs] == [0, 1]
    assert [pair.difference for pair in pairs] == pytest.approx([-1.0, -1.2])
    assert [pair.void for pair in pairs] == ["", "parent collapsed"]
    assert compare.mean_difference(pairs) is None
    assert compare.mean_difference(pairs[:1]) == pytest.approx(-1.0)
    assert compare.mean_difference([]) is None


def test_a_missing_score_voids_its_pair():
    (pair,) = compare.pairs(arm("residual", [None]), arm("stack", [3.0]))
    assert pair.difference is None and pair.void == "no score"


def test_lowest_needs_every_seed_healthy_and_scored():
    good, better = arm("bigram", [3.0, 3.0]), arm("block", [2.0, 2.0], {1: "undertrained"})
    unscored = arm("stack", [1.0, None])
    assert compare.lowest([good, better, unscored]) is good
    assert compare.lowest([better, unscored]) is None


def test_the_logs_units():
    bigram = compare.claim(RUNGS["bigram"])
    assert bigram.unit == "character" and bigram.same_unit
    assert bigram.bits_per_byte == pytest.approx(2.4640 / math.log(2))
    impossible = compare.claim(RUNGS["pre-norm"])
    assert impossible.loss > math.log(compare.LOG_CHARACTERS)
    assert impossible.unit is None and impossible.bits_per_byte is None
    trained = compare.claim(RUNGS["swiglu"])
    assert trained.unit == "cl100k token" and not trained.same_unit
    final = compare.claim(RUNGS["mytnano-cl100k"])
    assert final.same_unit and final.bits_per_byte == pytest.approx(2.29, abs=0.005)
    assert compare.claim(RUNGS["average"]) is None


def test_changes_are_those_of_the_design():
    for id, rung in RUNGS.items():
        assert {c.setting for c in compare.changes(rung) if c.chosen} >= set(difference(id)), id
    change, rate = compare.changes(RUNGS["residual"])
    assert (rate.setting, rate.chosen) == ("optim.lr", False), "each has its own"
    assert (change.before, change.after, change.chosen) == ("off", "on", True)
    assert change.help


def chosen(id):
    found = [change for change in compare.changes(KNOWN[id]) if change.chosen]
    return {change.setting: (change.before, change.after) for change in found}


def test_changes_are_those_of_the_run_and_not_of_a_default():
    assert chosen("logged-lr") == {"optim.lr": ("0.00355", "1e-5")}, "block was never at 0.001"
    assert chosen("mytnano-long")["train.batch_windows"] == ("4", "16")
    assert chosen("batch-8") == {"train.batch_windows": ("4", "8")}
    assert chosen("dropout-4-epochs") == {"data.text_bytes": ("0", "262144")}
    assert chosen("dropout-0.1-4-epochs") == {"model.dropout": ("0", "0.1")}
    assert "FLOPs of tokenizers-8192" in chosen("tokenizers-512-flops")["train.train_bytes"][1]
    for id, rung in KNOWN.items():
        assert chosen(id) or rung.parent is None, id


def test_arms_are_held_against_each_other_by_their_shared_seeds():
    one, two = compare.of_shared_seeds(arm("logged-lr", [4.0]), arm("block", [3.0, 2.0]))
    assert (one.mean(), two.mean()) == (4.0, 3.0)
    assert compare.of_shared_seeds(None, two) == (None, two)


def test_bigrams_are_counted_for_the_seed_that_learned():
    learned = arm("bigram", [3.5, 3.6])
    old = {"char_bigram": {"bpb": 3.4, "nats_per_token": 2.4}}
    (first,) = compare.counted_bigrams(old, learned)
    assert (first.seed, first.learned, first.counted) == (0, 3.5, 3.4)
    new = {
        "char_bigrams": [{"seed": n, "bpb": 3.4 + n / 10, "nats_per_token": 2} for n in (0, 1, 2)]
    }
    gaps = [each.learned - each.counted for each in compare.counted_bigrams(new, learned)]
    assert gaps == pytest.approx([0.1, 0.1])
    assert compare.counted_bigrams({}, learned) == compare.counted_bigrams(new, None) == []


def test_what_was_set_to_match_comes_after_what_was_chosen():
    own, parent = arm("residual", [2.0]), arm("stack", [3.0])
    configs = [
        {"model": {"residual": r}, "optim": {"lr": lr}} for r, lr in ((True, 3e-3), (False, 1e-3))
    ]
    runs = [Run(a.runs[0].row, config=c) for a, c in zip((own, parent), configs, strict=True)]
    arms = [Arm(a.rung, [run]) for a, run in zip((own, parent), runs, strict=True)]
    chosen, matched = compare.changes(own.rung, *arms)
    assert (chosen.setting, chosen.chosen) == ("model.residual", True)
    assert (matched.setting, matched.before, matched.after) == ("optim.lr", "0.001", "0.003")
    assert not matched.chosen


def test_every_defect_names_two_rungs_and_a_claim():
    for defect in DEFECTS:
        assert defect.fair in RUNGS
        assert compare.claim(RUNGS[defect.as_logged]) is not None


def test_numbers_are_written_plainly():
    assert words.number(-1.23456) == "−1.235" and words.number(None) == "–"
    assert words.signed(0.0004) == "0.000" and words.signed(-0.0004) == "0.000"
    assert words.signed(0.12) == "+0.120" and words.signed(-0.12) == "−0.120"
    assert words.significant(0.012345, 2) == "0.012" and words.significant(1.2e-6, 2) == "1.2e−6"
    assert words.quantity(2**20, "B") == "1.05 MB" and words.quantity(999_999) == "1 M"
    assert words.quantity(1_400_000, zeros=True) == "1.40 M" and words.quantity(42) == "42"
    assert words.setting(1e-5) == "1e-5" and words.setting(True) == "on"
    assert words.title("LayerNorm -> RMSNorm") == "LayerNorm → RMSNorm"
    assert [power_of_ten(x) for x in (0.01, 1.0, 1e-3, 1e4)] == ["0.01", "1", "10⁻³", "10⁴"]


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.floats(0.1, 20))
def test_labels_are_spread_and_keep_their_order(places, gap):
    spaced = spread(places, gap)
    order = sorted(range(len(places)), key=lambda i: places[i])
    gaps = [spaced[b] - spaced[a] for a, b in itertools.pairwise(order)]
    assert all(g >= gap - 1e-6 for g in gaps)
    assert sum(spaced) == pytest.approx(sum(places), abs=1e-6)
