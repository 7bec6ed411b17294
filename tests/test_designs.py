"""The ladder as data: one change a rung, comparable sizes, and the rules for rates and budgets."""

import pydantic
import pytest
import torch
from model_toys import HEALTHY, factors

from mytnano.config import ModelConfig, RunConfig
from mytnano.designs import rates
from mytnano.designs.budgets import BUDGETS, apply
from mytnano.designs.rates import learning_rate_for
from mytnano.designs.rungs import (
    AS_LOGGED,
    CORE,
    DEPTH,
    DEPTH_RATES,
    DEPTHS,
    GROUPS,
    ROOT,
    RUNGS,
    design,
    difference,
    lineage,
    select,
)
from mytnano.errors import UserError
from mytnano.model.attention import TILE, TILED_UP_TO
from mytnano.model.transformer import Transformer
from mytnano.training.outcome import count_parameters

FOLLOW = {
    "multi-head": {"model.kv_heads"},  # as many key/value heads as query heads, as before
    "mytnano": {"optim.warmup", "optim.final_lr"},  # the log's last step is one schedule
    "logged-init": {"model.tied"},  # the log's init was harmful because the head was tied
}
"""Factors that go with the one that a rung changes."""


def parameters(id, vocabulary=200):
    config = design(id).model.but(vocab_size=vocabulary, context=64)
    with torch.device("meta"):
        return Transformer(config)


@pytest.mark.parametrize("id", [rung.id for rung in [*CORE, *AS_LOGGED] if rung.parent])
def test_a_rung_changes_one_factor(id):
    changed = factors(id)
    if id == "logged-lr":
        assert set(difference(id)) == {"optim.lr"}
        return
    assert len(changed - FOLLOW.get(id, set())) == 1, changed
    assert FOLLOW.get(id, set()) < changed | {""}


@pytest.mark.parametrize("rung", DEPTH, ids=lambda rung: rung.id)
def test_a_depth_cell_changes_depth_and_rate(rung):
    assert {"optim.lr"} <= set(difference(rung.id)) <= {"model.layers", "optim.lr"}
    config = design(rung.id)
    assert config.model.layers in DEPTHS and config.optim.lr in DEPTH_RATES


def test_the_depth_figure_is_complete():
    cells = {(c.model.residual, c.model.layers, c.optim.lr) for c in map(design, ids_of(DEPTH))}
    assert cells == {(r, n, lr) for r in (True, False) for n in DEPTHS for lr in DEPTH_RATES}


def ids_of(rungs):
    return [rung.id for rung in rungs]


def test_ids_and_configs_are_unique_and_parents_come_first():
    assert len(RUNGS) >= len(CORE) + len(AS_LOGGED) + len(DEPTH)
    assert len({design(id).hash for id in RUNGS}) == len(RUNGS)
    seen = set()
    for rung in RUNGS.values():
        assert rung.parent is None or rung.parent in seen
        assert rung.group in GROUPS and rung.title and rung.why.endswith(".")
        seen.add(rung.id)
    assert design("bigram") == ROOT and [r.id for r in CORE if r.parent is None] == ["bigram"]


def test_core_rungs_build_on_core_rungs_and_give_their_paper():
    for rung in CORE:
        assert all(ancestor.group == "core" for ancestor in lineage(rung.id))
        assert rung.paper and rung.code


@pytest.mark.parametrize("id", RUNGS)
def test_every_design_builds_and_runs(id):
    config = design(id).model.but(vocab_size=50, context=16)
    with torch.no_grad():
        assert Transformer(config).logits(torch.zeros(1, 16, dtype=torch.long)).shape == (1, 16, 50)


@pytest.mark.parametrize("id", ids_of(CORE))
def test_the_code_that_explain_shows_exists(id):
    import importlib

    for path in RUNGS[id].code:
        module, rest = path, []
        while True:
            try:
                found = importlib.import_module(f"mytnano.{module}")
                break
            except ModuleNotFoundError:
                module, _, last = module.rpartition(".")
                rest.insert(0, last)
        for name in rest:
            found = getattr(found, name)


def test_sizes_that_must_match():
    sizes = {id: count_parameters(parameters(id)) for id in ids_of(CORE)}
    assert sizes["multi-head"] == sizes["attention"]
    assert sizes["flash"] == sizes["swiglu"] and sizes["init"] == sizes["gqa"] == sizes["mytnano"]
    assert sizes["average"] == sizes["average-current"] == sizes["bigram"]
    assert sizes["residual"] == sizes["stack"]
    assert sizes["rope"][1] == sizes["flash"][1] and sizes["rope"][0] < sizes["flash"][0]
    assert sizes["gqa"][1] < sizes["rope"][1]
    ffn = [
        sum(p.numel() for n, p in parameters(id).named_parameters() if ".ffn." in n)
        for id in ("rmsnorm", "swiglu")
    ]
    assert abs(ffn[1] / ffn[0] - 1) < 0.01


def test_the_final_model_is_the_whole_list():
    config = design("mytnano").model
    small = {k: v for k, v in HEALTHY.items() if k not in ("width", "layers", "ffn_width")}
    assert {k: getattr(config, k) for k in small} == small
    assert design("mytnano-cl100k").but(data={"tokenizer": "x"}) == design("mytnano").but(
        data={"tokenizer": "x"}
    )


def test_flash_says_up_to_which_window_it_repeats_swiglu():
    assert f"windows of up to {TILE} tokens" in RUNGS["flash"].why
    assert TILE < TILED_UP_TO


def test_select():
    assert [r.id for r in select(["stack", "bigram"])] == ["bigram", "stack"]  # ladder order
    assert select(["core"]) == CORE and select(["core", "bigram"]) == CORE
    assert select([]) == []
    with pytest.raises(UserError, match=r"'bigrams' is not a rung or a group; rungs: bigram, .*"):
        select(["bigram", "bigrams"])


def test_difference():
    assert difference("bigram") == {}
    assert difference("residual") == {"model.residual": (False, True)}
    assert difference("swiglu") == {
        "model.ffn": ("relu", "swiglu"),
        "model.ffn_width": (512, 344),
    }


SWEEP = {"train_bytes": 1000, "rungs": {"block": {"lr": 0.004}, "pre-norm": {"lr": 0.001}}}


def test_a_tuned_rate_and_its_rule_for_other_budgets():
    assert learning_rate_for("block", 1000, SWEEP) == 0.004
    assert learning_rate_for("block", 16_000, SWEEP) == 0.002
    assert learning_rate_for("block", 62, SWEEP) == pytest.approx(0.008, rel=0.01)
    rate = learning_rate_for("block", 3000, SWEEP)
    assert rate == float(f"{rate:.3g}") == pytest.approx(0.004 * 3**-0.25, rel=1e-2)


def test_other_rungs_take_their_core_parents_rate_or_their_own():
    assert learning_rate_for("logged-two-blocks", 1000, SWEEP) == 0.004
    assert learning_rate_for("logged-dropout", 1000, SWEEP) == 0.001
    assert learning_rate_for("logged-lr", 1000, SWEEP) == 1e-5
    assert learning_rate_for("logged-lr", 9000, SWEEP) == 1e-5  # a defect is kept as it was
    for rung in DEPTH:
        assert learning_rate_for(rung.id, 123, SWEEP) == design(rung.id).optim.lr
    assert learning_rate_for("bigram", 1000, SWEEP) == ROOT.optim.lr  # not tuned yet


def test_the_shipped_sweep_fits_the_ladder():
    sweep = rates.shipped()
    assert set(sweep["rungs"]) <= set(ids_of(CORE))
    for id, entry in sweep["rungs"].items():
        tried = [lr for lr, _ in entry["points"]]
        assert tried == sorted(tried) and tried[0] / 2 < entry["lr"] < tried[-1] * 2
        assert learning_rate_for(id, sweep["train_bytes"]) == pytest.approx(entry["lr"], rel=1e-2)


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets_set_sizes_and_nothing_of_the_design(name):
    budget = BUDGETS[name]
    assert budget.name == name and set(budget.groups) <= set(GROUPS)
    for rung in RUNGS.values():
        before, after = design(rung.id), apply(design(rung.id), budget, rung.group)
        assert after.model == before.model and after.optim == before.optim
        assert after.train.seed == 0 and after.data.window_bytes == before.data.window_bytes
        if rung.group == "core":
            assert after.train.train_bytes == budget.train_bytes
            assert after.train.test_bytes == budget.test_bytes and after.train.score_test
        if rung.group == "depth":
            assert after.train.train_bytes == budget.depth_bytes and not after.train.score_test
        assert after.data.tokenizer == before.data.tokenizer
    assert apply(ROOT, BUDGETS["quick"], "core").steps >= 250


def test_a_config_that_cannot_be_is_refused():
    for changes in ({"heads": 3}, {"kv_heads": 3}, {"heads": 128, "kv_heads": 128}):
        with pytest.raises(pydantic.ValidationError):
            ModelConfig(width=128, positions="rope", **changes)
    with pytest.raises(pydantic.ValidationError):
        ModelConfig(ffn="relu", ffn_width=0)
    with pytest.raises(pydantic.ValidationError):
        RunConfig().but(model={"widht": 3})
    with pytest.raises(pydantic.ValidationError):
        RunConfig().model.width = 3
