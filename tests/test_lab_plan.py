"""Plans: one design choice an arm, everything else matched, all refused before any compute."""

import random
import string

import pytest
import torch
from lab_toys import TINY, question, where

from mytnano.designs.baselines import SMALL, starting_design
from mytnano.errors import UserError
from mytnano.lab.match import equal_flops, equal_parameters, parameters, run_flops
from mytnano.lab.plan import make_plan
from mytnano.lab.spec import builtin_names, read_spec
from mytnano.model.transformer import Transformer


def planned(folder, **fields):
    spec = read_spec(question(folder, **fields))
    return make_plan(spec, where(folder, spec.corpus))


def test_the_arm_differs_in_one_factor(tmp_path):
    plan = planned(tmp_path)
    (arm,) = plan.arms
    assert arm.factors == ("model.ffn: gelu -> relu",) and arm.others == () and not arm.twin
    assert arm.flops == plan.baseline.flops
    assert plan.arm("relu") is arm and plan.arm("baseline") is plan.baseline


REFUSED = [
    ({"norm": "none", "ffn": "relu"}, "changes 2 design choices .model.ffn, model.norm."),
    ({}, "it changes nothing"),
    ({"ffn": "gelu"}, "it changes only ffn, which is no design choice"),
    ({"evaluations": 3}, "^arm 'a': train.evaluations must be the baseline's"),
    ({"ffn": "relu", "salt": "x"}, "train.salt must be the baseline's"),
    ({"ffn": "relu", "compile": True}, "train.compile must be the baseline's"),
    ({"ffn": "relu", "micro_windows": 1, "joint": True}, "train.micro_windows must be the base"),
    ({"ffn": "relu", "recompute": True}, "train.recompute must be the baseline's"),
    ({"ffn": "relu", "fleet": True}, "train.fleet must be the baseline's"),
    ({"salt": "x", "fleet": True}, "train.salt, train.fleet must be the baseline's"),
    ({"ffn": "relu", "window_bytes": 128}, "data.window_bytes must be the baseline's"),
    ({"ffn": "relu", "batch_windows": 1}, "train.batch_windows must be the baseline's"),
    ({"ffn": "relu", "width": 32}, "model.width must be the baseline's"),
    ({"ffn": "relu", "joint": "no"}, "joint must be true or false"),
    ({"ffn": "relu", "model.ffn": "silu"}, "arm 'a': model.ffn is given twice: give it once"),
    ({"tokenizer": "bpe:65536"}, "ask for bpe:[0-9]+, or give more text"),
    ({"heads": 3}, "arm 'a': model: width 16 must be a multiple"),
    ({"nothing": 3}, "arm 'a': 'nothing' is not a setting"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_what_is_not_a_fair_question_is_refused(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        planned(tmp_path, arms={"a": changes})


@pytest.mark.parametrize("match", ["flops", "bytes"])
def test_a_size_is_a_choice_where_it_is_the_only_change(tmp_path, match):
    (arm,) = planned(tmp_path, arms={"a": {"ffn_width": 48}}, match=match).arms
    assert arm.factors == ("model.ffn_width: 32 -> 48",) and "model.ffn_width" not in arm.others
    assert arm.config.model.ffn_width == 48


def test_a_size_that_the_matching_would_undo_is_refused(tmp_path):
    with pytest.raises(UserError, match="ffn_width is what match: parameters sets: use match: f"):
        planned(tmp_path, arms={"a": {"ffn_width": 48}}, match="parameters")


def test_a_joint_change_is_allowed_and_labelled(tmp_path):
    plan = planned(tmp_path, arms={"a": {"norm": "none", "ffn": "relu", "joint": True}})
    assert plan.arms[0].factors == ("model.ffn: gelu -> relu", "model.norm: rmsnorm -> none")


def test_a_salt_makes_a_twin(tmp_path):
    (twin,) = planned(tmp_path, arms={"twin": {"salt": "t"}}).arms
    assert twin.twin and twin.factors == ()
    assert twin.config.train.salt == "t"


def test_flops_are_matched_by_steps(tmp_path):
    plan = planned(tmp_path, arms={"deep": {"layers": 4}, "bpe": {"tokenizer": "bpe:512"}})
    for arm in plan.arms:
        assert arm.flops == pytest.approx(plan.baseline.flops, rel=0.01)
        assert arm.config.train.train_bytes != plan.baseline.config.train.train_bytes
    assert any("train.train_bytes" in other for other in plan.arms[0].others)


def test_flops_that_whole_steps_cannot_match(tmp_path):
    with pytest.raises(UserError, match="can only be matched to"):
        planned(tmp_path, arms={"deep": {"layers": 40}}, train_bytes=4096)


def test_parameters_are_matched_by_a_width(tmp_path):
    plan = planned(tmp_path, match="parameters", arms={"glu": {"ffn": "swiglu"}})
    (arm,) = plan.arms
    assert arm.config.model.ffn_width < 32
    assert arm.parameters == pytest.approx(plan.baseline.parameters, rel=0.01)
    assert arm.config.train.train_bytes == plan.baseline.config.train.train_bytes
    with pytest.raises(UserError, match=r"no feed-forward width gives|does not have"):
        planned(tmp_path, match="parameters", arms={"none": {"ffn": "none"}})


def test_bytes_alone(tmp_path):
    (arm,) = planned(tmp_path, match="bytes", arms={"deep": {"layers": 4}}).arms
    assert arm.config.train.train_bytes == 8192 and arm.flops > 0


def test_parameters_are_those_of_the_model(tmp_path):
    config = planned(tmp_path).baseline.config
    assert parameters(config) == sum(p.numel() for p in Transformer(config.model).parameters())
    assert torch.empty(0).device.type == "cpu"
    wide = config.but(model={"ffn_width": 64})
    assert equal_parameters(wide, parameters(config)).model.ffn_width == 32
    assert run_flops(equal_flops(wide, run_flops(config))) == pytest.approx(
        run_flops(config), rel=0.01
    )


def test_a_question_that_no_seeds_could_decide(tmp_path):
    with pytest.raises(UserError, match=r"4 seeds cannot decide at alpha 0.01 .* it takes 6"):
        planned(tmp_path, seeds=4)
    assert planned(tmp_path, seeds=4, alpha=0.2)
    with pytest.raises(UserError, match="4 seeds cannot decide"):
        planned(tmp_path, seeds=4, baseline="nothing that is looked for")


def test_the_hash_is_of_the_whole_plan(tmp_path):
    one, same = planned(tmp_path), planned(tmp_path)
    assert one.hash == same.hash and len(one.hash) == 12
    others = [
        planned(tmp_path, margin=0.5), planned(tmp_path, seeds=9),
        planned(tmp_path, prediction={"relu": "worse"}), planned(tmp_path, train_bytes=16_384),
        planned(tmp_path, arms={"relu": {"ffn": "silu"}}),
        planned(tmp_path, baseline={**TINY, "layers": 2}),
    ]  # fmt: skip
    assert len({plan.hash for plan in [one, *others]}) == 7


def test_designs_to_start_from():
    assert starting_design("small") is SMALL
    assert starting_design("pre-norm").model.norm == "layernorm"
    with pytest.raises(UserError, match="'large' is not a design to start from; choose from small"):
        starting_design("large")


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """A text that supports the vocabularies of the built-in questions."""
    chance = random.Random(0)
    letters = string.ascii_lowercase
    lexicon = ["".join(chance.choices(letters, k=chance.randint(3, 9))) for _ in range(1500)]
    folder = tmp_path_factory.mktemp("varied")
    (folder / "text.txt").write_text(" ".join(chance.choices(lexicon, k=20_000)))
    return folder


@pytest.mark.parametrize("name", builtin_names())
def test_every_built_in_question_is_a_fair_plan(varied, name):
    spec = read_spec(name, corpus=str(varied / "text.txt"))
    plan = make_plan(spec, where(varied, spec.corpus))
    for arm in plan.arms:
        assert arm.twin or arm.factors
        if spec.match == "flops":
            assert arm.flops == pytest.approx(plan.baseline.flops, rel=0.01)
