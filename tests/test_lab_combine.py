"""Several choices together: arms that the plan makes, and the interaction with a known truth."""

import pytest
from lab_toys import ask, pretend, question, scores, where

from mytnano.errors import UserError
from mytnano.lab.plan import make_plan
from mytnano.lab.spec import read_spec

ARMS = {"silu": {"ffn": "silu"}, "gqa": {"kv_heads": 1}, "ln": {"norm": "layernorm"}}


def planned(folder, **fields):
    spec = read_spec(question(folder, **{"arms": ARMS, **fields}))
    return make_plan(spec, where(folder, spec.corpus))


def test_add_one_in_is_the_arms_and_all_of_them(tmp_path):
    plan = planned(tmp_path, combine="add-one-in")
    assert [arm.name for arm in plan.arms] == ["silu", "gqa", "ln", "all"]
    assert len(plan.arm("all").factors) == 3 and plan.baseline.name == "baseline"
    assert not plan.interaction and plan.hash != planned(tmp_path).hash


def test_leave_one_out_holds_all_but_one_against_all(tmp_path):
    plan = planned(tmp_path, combine="leave-one-out")
    assert plan.baseline.name == "all"
    assert plan.baseline.config.model.ffn == "silu" and plan.baseline.config.model.kv_heads == 1
    assert [arm.name for arm in plan.arms] == ["without-silu", "without-gqa", "without-ln"]
    assert plan.arm("without-silu").factors == ("model.ffn: silu -> gelu",)
    for arm in plan.arms:
        assert arm.flops == pytest.approx(plan.baseline.flops, rel=0.01)


REFUSED = [
    ({"arms": {"silu": {"ffn": "silu"}}}, "at least two arms"),
    ({"arms": {**ARMS, "all": {"layers": 2}}}, "makes an arm 'all' itself"),
    ({"arms": {**ARMS, "relu": {"ffn": "relu"}}}, "'silu' and 'relu' both set model.ffn"),
    (
        {"arms": {**ARMS, "x": {"layers": 2, "tied": True, "joint": True}}},
        "arm 'x' says joint, but combine",
    ),
    (
        {"arms": {**ARMS, "x": {"layers": 2, "tied": True}}},
        "it changes 2 design choices .*needs arms of one each",
    ),
    ({"arms": {**ARMS, "twin": {"salt": "t"}}}, "arm 'twin': it changes 0 design choices"),
    ({"prediction": {"both": "better"}}, "'both', which is not an arm"),
    ({"combine": "some"}, "combine: Input should be"),
]


@pytest.mark.parametrize(("fields", "words"), REFUSED)
@pytest.mark.parametrize("combine", ["interaction", "leave-one-out"])
def test_what_cannot_be_combined_is_refused(tmp_path, combine, fields, words):
    with pytest.raises(UserError, match=words):
        planned(tmp_path, **{"combine": combine, **fields})


TWO = {"silu": {"ffn": "silu"}, "gqa": {"kv_heads": 1}}


@pytest.mark.parametrize(
    ("whole", "verdict", "words"),
    [
        (-1.0, "worse", "all is worse than the sum of silu + gqa by "),
        (-5.0, "better", "all is better than the sum of silu + gqa by "),
        (-2.98, "equivalent", "all is the sum of silu + gqa: an interaction of"),
    ],
)
def test_the_interaction_is_all_minus_the_sum(tmp_path, monkeypatch, whole, verdict, words):
    jobs = pretend(monkeypatch, scores({"silu": -1.0, "gqa": -2.0, "all": whole}))
    found, printed = ask(
        tmp_path, arms=TWO, combine="interaction", seeds=30, prediction={"interaction": verdict}
    )
    assert found.interaction.verdict == verdict and words in found.sentences[-1]
    assert found.sentences[-1].count("; LR not certified, baseline: ") == 1
    assert ", silu: " in found.sentences[-1] and ", gqa: " in found.sentences[-1]
    assert "predicted rightly" in printed and [v.verdict for v in found.verdicts] == ["better"] * 3
    assert found.interaction.difference == pytest.approx(whole + 2.98, abs=0.15)
    seeds = {
        arm: {j.seed for j in jobs if j.rung == arm and j.config[2]["group"] == "confirmed"}
        for arm in ("baseline", "silu", "gqa", "all")
    }
    assert len({frozenset(s) for s in seeds.values()}) == 1, "every arm has every seed"


def test_an_unfit_part_leaves_no_interaction(tmp_path, monkeypatch):
    state = lambda arm, seed: "diverged" if arm == "gqa" else "healthy"
    pretend(monkeypatch, scores({"silu": -1.0, "all": -2.0}), state)
    found, _ = ask(tmp_path, arms=TWO, combine="interaction", seeds=10)
    assert found.interaction.verdict == "diverged"
    assert "is known, as all or one of silu + gqa has diverged (" in found.sentences[-1]


def test_an_interaction_that_is_lost_trains_no_more_of_its_parts(tmp_path, monkeypatch):
    state = lambda arm, seed: "diverged" if arm == "gqa" else "healthy"
    pretend(monkeypatch, scores({"silu": -0.1, "all": -2.0}, 0.02), state)
    found, _ = ask(tmp_path, arms=TWO, combine="interaction", seeds=10)
    assert len(found.runs["silu"]) == 10, "it is not decided"
    assert len(found.runs["gqa"]) < 10


def test_leaving_out_is_answered_against_all(tmp_path, monkeypatch):
    pretend(monkeypatch, scores({"without-silu": 2.0, "without-gqa": 0.0}, 0.0004))
    found, _ = ask(tmp_path, arms=TWO, combine="leave-one-out", seeds=20)
    assert found.sentences[0].startswith("without-silu is worse than all by ")
    assert found.sentences[1].startswith("without-gqa is equivalent to all")
