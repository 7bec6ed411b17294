"""The extended groups as data: one change a rung, sizes that match, rates with an origin."""

import functools

import pytest
import torch
from model_toys import factors

from mytnano.designs import rates
from mytnano.designs.budgets import BUDGETS, apply
from mytnano.designs.families import BASE, EXTENDED, FFN_FACTORS, MIDDLE, gated_width
from mytnano.designs.groups import WIDER_GROUPS, members_of, rate_of
from mytnano.designs.rates import learning_rate_for
from mytnano.designs.rungs import GROUPS, KNOWN, RUNGS, design, difference, select
from mytnano.errors import UserError
from mytnano.lab.spec import builtin_names
from mytnano.model.transformer import Transformer
from mytnano.training.outcome import count_parameters

SIZES = {"model.ffn_width"}
"""Settings that match designs elsewhere, and are the change itself in a group about them."""
JOINT = {
    "sizes-small", "sizes-large", "sizes-xlarge",  # a size is one thing
    "optimizers-lion",  # with the decay of its paper
}  # fmt: skip
BY_BUDGET = {
    id
    for id, rung in EXTENDED.items()
    if rung.equal_flops or rung.epochs > 1 or rung.batch_windows or id == MIDDLE
}
"""Rungs whose change is in what they read, which is set with the budget; MIDDLE's vocabulary learns
from more text than its parent's. Dropout over epochs changes dropout besides."""


def chosen(id):
    """What a rung's own design changes, but for a width that follows to match parameters."""
    return factors(id) or set(difference(id)) & SIZES


@pytest.mark.parametrize("id", sorted(set(EXTENDED) - JOINT - BY_BUDGET))
def test_a_rung_changes_one_thing(id):
    assert len(chosen(id)) == 1, difference(id)


def test_what_is_declared_otherwise_is_what_it_says():
    for id in JOINT:
        assert len(difference(id)) > 1
    for id in BY_BUDGET:
        rung = EXTENDED[id]
        assert set(difference(id)) <= {"model.dropout"}
        read = [rung.equal_flops, rung.epochs > 1, rung.batch_windows, id == MIDDLE]
        assert len(list(filter(None, read))) == 1
        if difference(id):
            assert KNOWN[rung.parent].epochs == rung.epochs, "dropout is the one change"


def test_members_are_rungs_and_every_extended_rung_is_in_its_group():
    assert list(WIDER_GROUPS) == [group.name for group in WIDER_GROUPS.values()]
    assert not set(WIDER_GROUPS) & (set(GROUPS) | set(KNOWN)), "one name, one meaning"
    assert not set(EXTENDED) & set(RUNGS)
    for rung in EXTENDED.values():
        group = WIDER_GROUPS[rung.group]
        assert rung.id in group.ids and rung.id.startswith(group.name)
        assert rung.title and rung.why.endswith(".") and rung.paper and rung.code
        assert rung.parent in KNOWN and list(KNOWN).index(rung.parent) < list(KNOWN).index(rung.id)
    for group in WIDER_GROUPS.values():
        assert members_of(group) and set(group.ids) <= set(KNOWN)
        assert BASE in group.ids or group.name == "tokenizers"
        assert set(group.verdicts) <= set(builtin_names())
        labels = [group.members[id] for id in group.ids if not KNOWN[id].equal_flops]
        assert len(set(labels)) == len(labels)


def test_designs_differ_unless_what_they_read_does():
    plain = [id for id in EXTENDED if id not in BY_BUDGET]
    assert len({design(id).hash for id in [*plain, BASE]}) == len(plain) + 1


@pytest.mark.parametrize("id", EXTENDED)
def test_every_design_builds_and_runs(id):
    config = design(id).model.but(vocab_size=50, context=16)
    with torch.no_grad():
        assert Transformer(config).logits(torch.zeros(1, 16, dtype=torch.long)).shape == (1, 16, 50)


@functools.cache
def parameters(id):
    return count_parameters(Transformer(design(id).model.but(vocab_size=8, context=8)))[1]


def test_parameters_match_where_the_group_says_so():
    base = parameters(BASE)
    for name in ("activations", "inits", "schedules", "optimizers", "weight-decay", "dropout"):
        for id in WIDER_GROUPS[name].ids:
            assert parameters(id) == pytest.approx(base, rel=0.01), id
    assert all(parameters(id) == base for id in WIDER_GROUPS["activations"].ids), "they do exactly"
    heads = [parameters(id) for id in WIDER_GROUPS["kv-heads"].ids]
    assert heads == sorted(heads, reverse=True) and heads[0] > heads[-1]
    for name in ("sizes", "ffn-width", "layers"):
        counts = [parameters(id) for id in WIDER_GROUPS[name].ids]
        assert counts == sorted(set(counts)), "more of it, more parameters"


def test_a_feed_forward_width_is_its_factor_within_a_multiple_of_eight():
    assert gated_width(4) == design(BASE).model.ffn_width
    for factor in FFN_FACTORS:
        assert abs(gated_width(factor) * 1.5 / 128 - factor) <= 8 * 1.5 / 128 / 2
    place = WIDER_GROUPS["ffn-width"].axis.place
    for id, label in WIDER_GROUPS["ffn-width"].members.items():
        assert place(KNOWN[id], {}, design(id).model.model_dump()) == float(label)


def test_selection_covers_groups_and_their_ladder_rungs():
    assert [r.id for r in select(["kv-heads"])] == [BASE, "kv-heads-mha", "kv-heads-mqa"]
    assert {r.id for r in select(["tying"])} == {BASE, "inits-gpt2", "tying-tied"}
    both = select(["norms", "inits"])
    assert len({r.id for r in both}) == len(both) == 8 + 5 - 2
    assert select(["core"]) == [r for r in RUNGS.values() if r.group == "core"]
    with pytest.raises(UserError, match=r"'norm' is not .*groups: core, .*, sizes, tokenizers, "):
        select(["norm"])


def test_a_rate_is_inherited_only_where_the_sweep_says_so():
    sweep = rates.shipped()["rungs"]
    kinds = {rate_of(rung) for rung in EXTENDED.values()}
    assert kinds == {"tuned", "inherited", "scaled"}
    for rung in EXTENDED.values():
        if rung.like:
            step = KNOWN[rung.like]
            assert abs(sweep[step.id]["lr"] / sweep[step.parent]["lr"] - 1) < 0.1
            mine, core = ({p.split(".")[1] for p in difference(id)} for id in (rung.id, step.id))
            assert mine == core, "a change of the same kind"


def test_rates_of_extended_rungs():
    ladder = learning_rate_for(BASE, 2**20)
    assert learning_rate_for("kv-heads-mha", 2**20) == ladder
    tuned = {"inits-gpt2": 0.5, "tying-tied": 0.25}
    assert learning_rate_for("tying-tied", 2**20, None, tuned) == 0.25
    assert learning_rate_for("inits-gpt2", 2**20, None, tuned) == 0.5
    assert learning_rate_for("kv-heads-mqa", 2**20, None, tuned) == ladder


def test_budgets_leave_what_a_group_is_about():
    quick = BUDGETS["quick"]
    assert apply(design("tokenizers-512"), quick, "tokenizers").data.tokenizer_bytes == 0
    assert apply(design(BASE), quick, "core").data.tokenizer_bytes == 2**20
    for name in WIDER_GROUPS:
        assert (quick.seeds_of(name), quick.bytes_of(name)) == (2, 2**20)
    assert quick.seeds_of("as-logged") == quick.seeds_of("depth") == quick.seeds_of("long") == 1
