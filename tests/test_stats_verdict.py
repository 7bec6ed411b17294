"""The rule: every verdict, their order, several arms at once, and what is told of each."""

import math

import numpy as np
import pytest
from scipy import stats

from mytnano.errors import UserError
from mytnano.stats import Pairs, Rule, eprocess, judge
from mytnano.stats.differences import band, log_percent, percent
from mytnano.stats.holm import holm
from mytnano.stats.power import minimum_detectable, pairs_for
from mytnano.stats.verdict import VERDICTS

BASELINE = 2.0 + 0.05 * np.random.default_rng(9).standard_normal(64)


def arm(name="x", shift=0.0, deviation=0.3, n=12, seed=1, status=""):
    """An arm that differs by a percentage, with a paired deviation in percent."""
    noise = np.random.default_rng(seed).standard_normal(n)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    metric = BASELINE[:n] * np.exp((100 * math.log1p(shift / 100) + deviation * noise) / 100)
    return Pairs(name, metric, BASELINE[:n], status)


def one(pairs, **rule):
    (found,) = judge([pairs], Rule(**rule))
    return found


def test_differences_are_percentages_that_can_be_turned_around():
    d = log_percent([1.01, 2.0, 3.0], [1.0, 2.0, 6.0])
    assert percent(d[0]) == pytest.approx(1.0) and d[1] == 0.0
    assert percent(d[2]) == pytest.approx(-50.0)
    np.testing.assert_allclose(log_percent([1.0, 2.0, 6.0], [1.01, 2.0, 3.0]), -d)
    assert log_percent(2.7, 2.7) == 0.0
    assert (percent(math.inf), percent(-math.inf)) == (math.inf, -math.inf)
    assert percent(1e9) == math.inf and percent(band(0.3)) == pytest.approx(0.3)
    assert -0.3 < percent(-band(0.3)) < -0.299


@pytest.mark.parametrize(
    ("shift", "higher", "verdict"),
    [(-2.0, False, "better"), (2.0, False, "worse"), (-2.0, True, "worse"), (2.0, True, "better")],
)
def test_better_and_worse_follow_the_metric(shift, higher, verdict):
    found = one(arm(shift=shift), higher_is_better=higher)
    assert found.verdict == found.detected == verdict
    assert found.difference == pytest.approx(shift) and found.pairs == 12
    assert found.low < shift < found.high and found.low * found.high > 0
    assert found.p == found.p_adjusted <= 0.01 and found.log10_bayes_factor >= 2
    assert found.p == pytest.approx(10**-found.log10_bayes_factor)
    assert found.deviation == pytest.approx(0.3) and found.detectable is None


def test_equivalent_needs_the_interval_inside_the_margin():
    found = one(arm(shift=0.05, deviation=0.1, n=24))
    assert found.verdict == "equivalent" and found.detected == ""
    assert -0.3 < found.low < 0 < found.high < 0.3
    assert one(arm(shift=0.05, deviation=0.1, n=24), margin=0.1).verdict == "unresolved"
    assert one(arm(shift=0.25, deviation=0.1, n=24)).verdict == "worse", "it reaches beyond"


def test_a_real_difference_inside_the_margin_is_equivalent_and_known_to_be_real():
    found = one(arm(shift=-0.15, deviation=0.05, n=24))
    assert (found.verdict, found.detected) == ("equivalent", "better")
    assert found.high < 0 and found.p_adjusted <= 0.01
    assert one(arm(shift=-0.15, deviation=0.05, n=24), margin=0.1).verdict == "better"


def test_identical_is_every_pair_exactly():
    found = one(Pairs("x", BASELINE[:5], BASELINE[:5].copy()))
    assert (found.verdict, found.difference, found.low, found.high) == ("identical", 0, 0, 0)
    almost = BASELINE[:5].copy()
    almost[3] = np.nextafter(almost[3], 3)
    assert one(Pairs("x", almost, BASELINE[:5])).verdict != "identical"
    assert one(Pairs("x", BASELINE[:2], BASELINE[:2])).verdict == "unresolved"


def test_pairs_that_all_differ_alike_are_told_and_need_enough_pairs():
    least = eprocess.fewest_pairs(0.01)
    for n, verdict in ((least - 1, "unresolved"), (least, "better"), (20, "better")):
        found = one(Pairs("x", BASELINE[:n] * 0.99, BASELINE[:n]))
        assert found.constant and found.verdict == verdict and not found.contradictory
    for shift, verdict in ((0.99, "better"), (0.999, "equivalent")):
        found = one(Pairs("x", BASELINE[:20] * shift, BASELINE[:20]), fixed=True)
        assert found.constant and found.verdict == verdict
        assert found.low == pytest.approx(found.high) == pytest.approx(100 * (shift - 1))
    assert not one(arm()).constant


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("fixed", [False, True])
def test_fewer_than_three_pairs_decide_nothing(n, fixed):
    found = one(Pairs("x", BASELINE[:n] * 0.5, BASELINE[:n]), fixed=fixed)
    assert found.verdict == "unresolved" and found.p == 1.0 and found.pairs == n
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert math.isinf(found.detectable) and found.paired_t_p is None
    assert found.pairs_needed == (3 if fixed else eprocess.fewest_pairs(0.01))


def test_unresolved_says_what_it_would_have_found():
    found = one(arm(shift=0.1, deviation=0.5, n=10))
    assert found.verdict == "unresolved"
    assert found.detectable == minimum_detectable(10, 0.01)
    assert found.detectable_percent == pytest.approx(percent(0.5 * found.detectable))
    assert found.pairs_needed == eprocess.fewest_pairs(0.01) <= 10
    assert found.pairs_for_margin == pairs_for(band(0.3) / found.deviation, 0.01) > 10


@pytest.mark.parametrize(("size", "deviation"), [(3.0, 0.3), (0.1, 0.005)])
def test_early_and_late_pairs_that_contradict_each_other_are_unresolved(size, deviation):
    early, late = arm("x", -size, deviation), arm("x", size, deviation, n=52, seed=2)
    metric = np.concatenate([early.arm, BASELINE[12:] * (late.arm / late.baseline)])
    found = one(Pairs("x", metric, BASELINE))
    assert found.contradictory and (found.verdict, found.detected) == ("unresolved", "")
    assert found.p < 1e-3 and math.isfinite(found.low)


@pytest.mark.parametrize("status", ["collapsed", "diverged", "undertrained"])
def test_a_status_is_the_verdict_and_nothing_is_looked_at(status):
    broken = Pairs("x", np.array([np.nan, 3.0]), BASELINE[:3], status)
    found = judge([broken, arm("y", -2.0)])
    assert (found[0].verdict, found[0].difference, found[0].p) == (status, None, 1.0)
    assert found[1].verdict == "better"
    assert found[1].p_adjusted == pytest.approx(2 * found[1].p), "the arm was asked about"


def test_several_arms_are_held_by_holm_and_intervals_by_their_number():
    arms = [arm("a", -2.0), arm("b", -0.42, seed=3), arm("c", 0.1, seed=4), arm("d", 1.5, seed=5)]
    together, alone = judge(arms), [one(each) for each in arms]
    np.testing.assert_allclose(
        [v.p_adjusted for v in together], holm([v.p for v in alone]), rtol=1e-12
    )
    assert [v.verdict for v in together] == ["better", "unresolved", "unresolved", "worse"]
    assert alone[1].verdict == "better"
    for v, w in zip(together, alone, strict=True):
        assert v.p == w.p and v.high - v.low > w.high - w.low
    shares = {v.name: v.level for v in together}
    assert shares["a"] == pytest.approx(0.0025) and shares["d"] == pytest.approx(0.01 / 3)
    assert shares["b"] == shares["c"] == pytest.approx(0.01 / 2)
    assert together[2].detectable == minimum_detectable(12, 0.005)


def test_a_late_step_of_holm_never_contradicts_the_interval():
    """Its interval at alpha over two arms just holds zero; its step, at alpha, rejects it."""
    clear, borderline = arm("clear", -5.0), 0
    for shift in np.linspace(0.25, 0.65, 60):
        _, found = judge([clear, arm("close", shift, seed=2)])
        assert (found.p_adjusted <= 0.01) == bool(found.detected) == (found.low >= 0)
        if 0.005 < found.p <= 0.01:
            borderline += 1
            assert found.low == 0.0 and found.verdict == "worse"
    assert borderline


def test_the_order_of_arms_does_not_matter():
    arms = [arm("a", -2.0), arm("b", -0.5, seed=3), arm("c", 0.1, seed=4)]
    assert judge(arms) == judge(arms[::-1])[::-1] == judge(arms)


def test_swapping_arm_and_baseline_turns_the_verdict_around():
    for shift, deviation in ((-2.0, 0.3), (0.1, 0.1), (0.4, 0.6)):
        pairs = arm(shift=shift, deviation=deviation)
        found, turned = one(pairs), one(Pairs("x", pairs.baseline, pairs.arm))
        opposite = {"better": "worse", "worse": "better"}
        assert turned.verdict == opposite.get(found.verdict, found.verdict)
        assert turned.p == pytest.approx(found.p)


def test_a_fixed_number_of_seeds_is_decided_by_the_paired_t():
    pairs = arm(shift=-0.5, deviation=0.4, n=9)
    found = one(pairs, fixed=True)
    expected = stats.ttest_rel(np.log(pairs.arm), np.log(pairs.baseline))
    ends = expected.confidence_interval(0.99)
    assert found.p == found.paired_t_p == pytest.approx(expected.pvalue)
    assert found.low == pytest.approx(100 * math.expm1(ends.low))
    assert found.high == pytest.approx(100 * math.expm1(ends.high))
    assert found.verdict == ("better" if expected.pvalue <= 0.01 else "unresolved")
    assert one(pairs).paired_t_p == found.paired_t_p and one(pairs).p > found.p
    weak = one(arm(shift=-0.1, deviation=0.4, n=9), fixed=True)
    assert weak.detectable == minimum_detectable(9, 0.01, classic=True)
    assert weak.pairs_for_margin is None


def test_the_rule_holds_its_error_rate_as_a_whole():
    """Real verdicts on small questions whose arms are all equal, asked again after every seed."""
    wrong = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        runs = 2 * np.exp(0.01 * rng.standard_normal((3, 12)))
        for n in (4, 8, 12):
            arms = [Pairs(str(i), runs[i, :n], runs[2, :n]) for i in range(2)]
            verdicts = {v.verdict for v in judge(arms, Rule(alpha=0.05, margin=0.01))}
            wrong += bool(verdicts & {"better", "worse", "equivalent"})
    assert wrong <= 3


@pytest.mark.parametrize(
    ("metric", "baseline", "said"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], "arm 'x': 2 runs against 3 of the baseline"),
        ([1.0, math.nan, 2.0], [1.0, 2.0, 3.0], "arm 'x': the metric must be positive, got nan"),
        ([1.0, 0.0, 2.0], [1.0, 2.0, 3.0], "arm 'x': the metric must be positive, got 0"),
        ([1.0, 1.0, 2.0], [1.0, -2.0, 3.0], "arm 'x': the metric must be positive, got -2"),
        ([1.0, 1.0, 2.0], [1.0, math.inf, 3.0], "arm 'x': the metric must be positive, got inf"),
    ],
)
def test_runs_that_cannot_be_judged_are_refused(metric, baseline, said):
    with pytest.raises(UserError, match=said):
        judge([Pairs("x", np.array(metric), np.array(baseline))])


def test_questions_that_cannot_be_judged_are_refused():
    with pytest.raises(UserError, match="there is no arm"):
        judge([])
    with pytest.raises(UserError, match="'sleepy' is not a status"):
        judge([arm(status="sleepy")])
    for alpha in (0.0, 0.5, -1.0, math.nan):
        with pytest.raises(UserError, match="alpha is"):
            Rule(alpha=alpha)
    for margin in (0.0, -0.3, 100.0, math.nan):
        with pytest.raises(UserError, match="the margin is"):
            Rule(margin=margin)


def test_every_verdict_is_listed():
    assert set(VERDICTS) == {
        "better", "worse", "equivalent", "identical", "unresolved",
        "collapsed", "diverged", "undertrained",
    }  # fmt: skip
