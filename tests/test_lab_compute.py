"""Effects as compute, over sizes and at equal time: plans, and pretended runs of known truth."""

import json
import math
import random
import re
from pathlib import Path

import pytest
import yaml
from lab_toys import TINY, ask, pretend_jobs, question, where

from mytnano.errors import UserError
from mytnano.lab import folder, steptime
from mytnano.lab import run as module
from mytnano.lab.curve import carried
from mytnano.lab.plan import make_plan
from mytnano.lab.spec import Spec, read_spec
from mytnano.lab.steptime import Times, timed_steps
from mytnano.ladder import tune

POWER = -0.1
"""Exponent of the pretended baseline's loss over its text."""


def law(effect=-2.0, slope=0.0, size=0.0005, power=POWER):
    """A power law of the text; the arm's effect moves by ``slope`` a doubling of compute."""

    def score(job):
        config = job.config[0]
        text = config.train.train_bytes / 8192
        doublings = math.log2(text) if job.name.startswith("size") else 0.0
        own = effect + slope * doublings if job.rung == "relu" else 0.0
        chance = random.Random(f"{job.rung}/{job.seed}/{text}").gauss(0, size)
        tuning = 0.02 * math.log2(config.optim.lr / 0.004) ** 2 if job.seed >= 1_000_000 else 0.0
        return 2.0 * text**power * (1 + own / 100) + chance + tuning

    return score


def edge_of(start):
    """As :func:`law`, but some runs have the best rate at the edge of the grid."""

    def score(job):
        tuning = job.seed >= 1_000_000 and job.name.startswith(start)
        return law()(job) - 10 * job.config[0].optim.lr * tuning

    return score


def collapse(bad):
    return lambda job: "collapsed" if bad(job) else "healthy"


def test_the_multiplier_of_a_power_law_is_found(tmp_path, monkeypatch):
    jobs = pretend_jobs(monkeypatch, law())
    found, printed = ask(tmp_path, multiplier=True, seeds=10)
    (verdict,) = found.verdicts
    worth = found.worth(verdict)
    assert worth.value.value == pytest.approx(0.98 ** (1 / POWER), rel=0.02)
    assert worth.low.value < worth.value.value < worth.high.value
    assert f"; worth {worth.value} [" in found.sentences[0] and "compute" in printed
    assert "training text that is read more than once: baseline-x4 1." in printed
    assert [level.factor for level in found.curve.levels] == [0.25, 0.5, 1.0, 2.0, 4.0]
    curve = [job for job in jobs if job.config[2]["group"] == "curve"]
    assert len(curve) == 12 and {job.seed for job in curve} == {0, 1, 2}
    assert {job.config[0].optim.lr for job in curve} == {
        carried(0.004, factor) for factor in (0.25, 0.5, 2, 4)
    }
    assert {job.config[0].data.tokenizer for job in curve} == {"byte"}
    written = json.loads((tmp_path / "out/answer.json").read_text())
    assert written["final"] and written["arms"][0]["compute_multiplier"]["value"]["value"] > 1
    assert len(written["curve"]["levels"]) == 5


def test_tuned_amounts_have_rates_of_their_own(tmp_path, monkeypatch):
    jobs = pretend_jobs(monkeypatch, edge_of("baseline-x4-"))
    found, printed = ask(tmp_path, multiplier="tuned", seeds=8, tuning_seeds=2)
    assert found.curve.tuned
    assert [level.lr_fair for level in found.curve.levels] == [True] * 4 + [False]
    assert "note: the LR of the baseline at 4x compute is not certified: its best" in printed
    assert any(j.rung == "baseline-x4" and j.config[2]["group"] == "tuning" for j in jobs)


def test_an_amount_that_fails_is_left_out_and_said(tmp_path, monkeypatch):
    pretend_jobs(monkeypatch, law(), collapse(lambda job: job.rung == "baseline-x0.25"))
    found, printed = ask(tmp_path, multiplier=True, seeds=8)
    assert [level.factor for level in found.curve.levels] == [0.5, 1.0, 2.0, 4.0]
    assert "note: the baseline at 0.25x compute is collapsed and left out" in printed


def test_a_baseline_that_compute_does_not_help_has_no_multiplier(tmp_path, monkeypatch):
    pretend_jobs(monkeypatch, law(power=0.1))
    found, printed = ask(tmp_path, multiplier=True, seeds=8)
    assert found.worth(found.verdicts[0]) is None and found.final
    assert "does not fall with compute" in printed


@pytest.mark.parametrize(
    ("slope", "said"),
    [
        (0.2, "its effect shrinks by 0."),
        (-0.2, "its effect grows by 0."),
        (0.0, "no trend with compute is resolved"),
    ],
)
def test_the_trend_of_an_effect_over_sizes(tmp_path, monkeypatch, slope, said):
    pretend_jobs(monkeypatch, law(slope=slope))
    sizes = [{"train_bytes": 4096}, {"train_bytes": 32768}]
    found, printed = ask(tmp_path, scales=sizes, seeds=10)
    assert said in found.sentences[0] and "3 sizes over 8x compute" in found.sentences[0]
    assert found.trends["relu"].slope == pytest.approx(slope, abs=0.05)
    assert "scale size-1" in printed
    written = json.loads((tmp_path / "out/answer.json").read_text())
    assert set(written["sizes"]) == {"size-1", "size-2"} and written["arms"][0]["trend"]


def test_rates_of_a_size_are_told_and_may_be_uncertified(tmp_path, monkeypatch):
    pretend_jobs(monkeypatch, edge_of("size-1.relu-"))
    sizes = [{"train_bytes": 4096}, {"train_bytes": 32768}]
    found, printed = ask(tmp_path, scales=sizes, seeds=8, tuning_seeds=2)
    assert printed.count("baseline: LR 0.004, fair") == 3 and "relu" in found.trends
    assert "note: at scale size-1 the LR of relu is not certified: its best rate" in printed


def test_fleets_must_hold_the_arms_of_every_size(tmp_path, monkeypatch):
    plan = planned(tmp_path, scales=[{"train_bytes": 4096}, {"train_bytes": 32768}])
    alone = lambda arms: next((name for name, _ in arms if name == "relu at scale size-2"), "")
    monkeypatch.setattr(folder, "first_alone", alone)
    said = []
    place = where(tmp_path, plan.spec.corpus)
    assert not folder.settled_fleet(place.out, plan, place, "on", said.append, False)
    assert said == ["no fleets, as not every arm can be in one (relu at scale size-2)"]


def test_the_size_of_the_document_is_one(tmp_path):
    text = (Path(__file__).parents[1] / "docs/lab.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"`(\{width: 32.*?\})`", text)
    small = {"from": "small", "tokenizer": "byte"}
    plan = planned(tmp_path, baseline=small, scales=[yaml.safe_load(shown), 4], train_bytes=16384)
    assert plan.scales["size-1"].baseline.config.model.width == 32


def test_an_arm_that_fails_at_a_size_has_no_trend(tmp_path, monkeypatch):
    bad = collapse(lambda job: job.rung == "relu" and job.name.startswith("size-1"))
    pretend_jobs(monkeypatch, law(), bad)
    sizes = [{"train_bytes": 4096}, {"train_bytes": 32768}]
    found, printed = ask(tmp_path, scales=sizes, seeds=8)
    assert not found.trends and "note: relu is collapsed at scale size-1" in printed
    assert found.final and found.verdicts[0].verdict == "better"


def stop(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("at", "asked", "final"),
    [
        ("measure_curve", {"multiplier": True}, False),
        ("_at_size", {"scales": [{"train_bytes": 4096}, {"train_bytes": 32768}]}, False),
        ("_at_size", {"multiplier": True, "scales": [{"train_bytes": 4096}, 16]}, False),
        ("measure_times", {"multiplier": True, "time": True}, True),
    ],
)
def test_a_verdict_is_written_before_what_else_was_asked_for(
    tmp_path, monkeypatch, at, asked, final
):
    pretend_jobs(monkeypatch, law())
    with monkeypatch.context() as stopped:
        stopped.setattr(module, at, stop)
        with pytest.raises(KeyboardInterrupt):
            ask(tmp_path, seeds=8, **asked)
    written = json.loads((tmp_path / "out/answer.json").read_text())
    assert written["arms"][0]["verdict"] == "better" and written["final"] is final
    assert ("curve" in written) is (at != "measure_curve" and "multiplier" in asked)
    assert (tmp_path / "out/results.csv").exists() and (tmp_path / "out/answer.svg").exists()
    if not final:
        ask(tmp_path, seeds=8, **asked)
        assert json.loads((tmp_path / "out/answer.json").read_text())["final"] is True


def planned(folder, **fields):
    spec = read_spec(question(folder, **fields))
    return make_plan(spec, where(folder, spec.corpus))


def test_a_factor_of_compute_grows_width_and_text(tmp_path):
    plan = planned(
        tmp_path, baseline={**TINY, "width": 32, "ffn_width": 64}, scales=[16, 81.0],
        arms={"glu": {"ffn": "swiglu", "ffn_width": 42}}, train_bytes=16384,
    )  # fmt: skip
    assert list(plan.scales) == ["x16", "x81"]
    sized = plan.scales["x16"]
    model = sized.baseline.config.model
    assert (model.width, model.ffn_width, model.heads, model.layers) == (64, 128, 2, 1)
    assert sized.arm("glu").config.model.ffn_width == 84, "an arm's own width follows"
    assert sized.baseline.config.train.train_bytes == 65536
    assert sized.arm("glu").flops == pytest.approx(sized.baseline.flops, rel=0.01)
    assert 8 < sized.baseline.flops / plan.baseline.flops < 24
    assert plan.hash != planned(tmp_path, baseline={**TINY, "width": 32, "ffn_width": 64}).hash


REFUSED = [
    ([4], "at least two sizes beside"),
    ([1, 4], "1 is not another size"),
    ([-1, 4], "-1 is not another size"),
    (["big", 4], "scales"),
    ([{"widht": 4}, 4], "scale size-1: 'widht' is not a size"),
    ([{"ffn": "swiglu"}, 4], "scale size-1: 'ffn' is not a size; there are width, layers, heads"),
    ([{"train_bytes": 10}, 4], "scale size-1: train_bytes must be a whole number"),
    ([4, 4], "scales: x4 stands there twice"),
    ([0.25, 4, 4.0000001], "scales: x4 stands there twice"),
    ([{"width": 32}, {"width": 32}], "scale size-2 is the same size as size-1"),
    ([{"width": 16}, 16.0], "scale size-1 is the same size as baseline"),
]


@pytest.mark.parametrize(("scales", "words"), REFUSED)
def test_sizes_that_make_no_trend_are_refused(tmp_path, scales, words):
    with pytest.raises(UserError, match=words):
        planned(tmp_path, scales=scales)


def test_old_questions_keep_their_plan_hash():
    spec = Spec(arms={"a": {"ffn": "relu"}})
    assert spec.model_dump(exclude_defaults=True) == {"arms": {"a": {"ffn": "relu"}}}


def test_equal_time_is_computed_from_steps_and_the_curve(tmp_path, monkeypatch):
    pretend_jobs(monkeypatch, law())
    slow = lambda arms: Times({"baseline": 0.01, "relu": 0.02}, {"baseline": 8, "relu": 8}, 1.0)
    monkeypatch.setattr(module, "measure_times", slow)
    found, printed = ask(tmp_path, multiplier=True, seeds=8, time=True)
    expected = 100 * (0.98 / 2**POWER - 1)
    assert f"at equal time relu would differ from baseline by {expected:+.1f}" in printed
    assert "computed and not trained: relu takes 2x the time of baseline (20 and 10 ms" in printed
    again, printed = ask(tmp_path, multiplier=True, seeds=8)
    assert again.times == found.times and "at equal time relu would" in printed
    assert json.loads((tmp_path / "out/answer.json").read_text())["arms"][0]["equal_time"]
    bare, printed = ask(tmp_path, out="bare", seeds=8, time=True)
    assert "at equal time relu" not in printed and "relu takes 2x the time" in printed
    assert bare.final and found.times


def test_step_times_of_a_busy_machine_are_void(tmp_path, monkeypatch):
    pretend_jobs(monkeypatch, law())
    busy = lambda arms: Times({"baseline": 0.01, "relu": 0.02}, {"baseline": 8, "relu": 8}, 80.0)
    monkeypatch.setattr(module, "measure_times", busy)
    _, printed = ask(tmp_path, seeds=8, time=True)
    assert "step times are void: 80 %" in printed and "takes 2x" not in printed


def test_steps_are_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(steptime, "STEPS", 2)
    monkeypatch.setattr(steptime, "WARM", 1)
    seconds = timed_steps(planned(tmp_path).baseline.config)
    assert len(seconds) == 2 and all(0 < each < 60 for each in seconds)


@pytest.mark.extras
def test_a_step_is_timed_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(steptime, "ROUNDS", 1)
    plan = planned(tmp_path)
    times = steptime.measure_times(plan.every)
    assert set(times.seconds) == {"baseline", "relu"} and times.run("relu") > 0
    assert times.steps["relu"] == plan.arm("relu").config.steps


@pytest.mark.extras
def test_a_real_question_over_compute_and_sizes_is_not_run_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "MOST_POINTS", 3)
    monkeypatch.setattr(tune, "START", (5, 6, 7))
    sizes = [{"train_bytes": 16384}, {"width": 24, "ffn_width": 48}]
    asked = {"multiplier": True, "scales": sizes, "seeds": 3, "alpha": 0.2, "fixed": True}
    found, _ = ask(tmp_path, **asked)
    assert found.final and set(found.trends) == {"relu"} and len(found.curve.levels) >= 3
    assert found.trends["relu"].seeds == 3
    runs = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("manifest.json")}
    again, _ = ask(tmp_path, **asked)
    assert again.sentences == found.sentences
    assert runs == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("manifest.json")}
