"""muP and CompleteP: what the rules say, and that activations obey."""

import pytest
import torch
from coordinate_check import TOY, batch, coordinates, growth
from model_toys import tiny_design

from mytnano.config import RunConfig
from mytnano.model.init import initialise
from mytnano.model.scaling import adamw_rule, query_factor, resized
from mytnano.model.transformer import Transformer
from mytnano.training.engine import Engine
from mytnano.training.optimizers import LR_SCALE


def toy(scaling: str, width: int = 32, layers: int = 2, **changes) -> RunConfig:
    model = resized(TOY.model, width, layers).but(scaling=scaling, **changes)
    return TOY.but(model=model.model_dump())


def model_of(config: RunConfig) -> Transformer:
    model = Transformer(config.model)
    initialise(model, 0)
    return model.eval()


def with_standard_scores(model: Transformer) -> Transformer:
    for block in model.blocks:
        block.mixer.query_factor = 1.0
    return model


@pytest.mark.parametrize("init", ["gpt2", "torch", "zero-out", "modern", "logged"])
@pytest.mark.parametrize("scaling", ["mup", "completep"])
def test_at_the_base_all_but_the_attention_scores_is_standard(scaling, init):
    ids = torch.arange(16)[None]  # (1, T)
    with torch.no_grad():
        standard = model_of(toy("standard", init=init)).logits(ids)
        scaled = model_of(toy(scaling, init=init))
        if init not in ("zero-out", "modern"):  # whose attention is silent at first
            assert not torch.equal(scaled.logits(ids), standard)
        assert torch.equal(with_standard_scores(scaled).logits(ids), standard)


def test_scores_are_divided_by_the_head_size():
    design = tiny_design("mytnano", scaling="mup")
    model, standard = Transformer(design), Transformer(design.but(scaling="standard"))
    standard.load_state_dict(model.state_dict())
    x, size = torch.randn(1, 12, 16), 16 // design.heads
    tables = model.tables(12, x)
    q, k, _ = model.blocks[0].mixer.project(x, tables)
    q0, k0, _ = standard.blocks[0].mixer.project(x, tables)
    assert torch.equal(k, k0) and torch.allclose(q, q0 / size**0.5)


@pytest.mark.parametrize(
    ("init", "name", "factor"),
    [
        ("gpt2", "blocks.0.ffn.up.weight", 1 / 2),
        ("gpt2", "embedding.weight", 1.0),
        ("gpt2", "head.weight", 1.0),
        ("torch", "blocks.0.ffn.up.weight", 1 / 2),
        ("torch", "head.weight", 1.0),
        ("torch", "embedding.weight", 1.0),
    ],
)
def test_four_times_the_width_halves_the_spread_of_hidden_matrices_alone(init, name, factor):
    small = dict(model_of(toy("mup", 64, init=init)).named_parameters())[name]
    large = dict(model_of(toy("mup", 256, init=init)).named_parameters())[name]
    assert (large.std() / small.std()).item() == pytest.approx(factor, rel=0.05)


def kind_of(name, weight):
    """Matrix of a block, vector of a block, or a weight outside of all blocks."""
    return (weight.ndim > 1, True) if name.startswith("blocks.") else (None, False)


@pytest.mark.parametrize(
    ("scaling", "matrix", "vector", "outside"),
    [
        ("mup", (1 / 4, 0.1, 1e-8 / 4), (1.0, 0.0, 1e-8 / 4), 1e-8 / 4),
        ("completep", (1 / 4, 0.4, 1e-8 / 16), (1.0, 0.0, 1e-8 / 16), 1e-8 / 4),
    ],
)
def test_adamw_follows_the_rules(scaling, matrix, vector, outside):
    config = toy(scaling, 128, 8).but(optim={"lr": 1e-2, "weight_decay": 0.1})
    engine = Engine(config)
    names = {id(p): name for name, p in engine.masters.items()}
    seen = set()
    for group in engine.optimizer.param_groups:
        kinds = {kind_of(names[id(p)], p) for p in group["params"]}
        assert len(kinds) == 1, "matrices and vectors of blocks are apart, and from the rest"
        found = group[LR_SCALE], group["weight_decay"], group["eps"]
        if (False, True) in kinds:
            assert found == pytest.approx(vector)
        elif (True, True) in kinds:
            assert found == pytest.approx(matrix)
        else:
            assert (found[0], found[2]) == pytest.approx((1.0, outside))
        seen |= kinds
    assert len(seen) == 3
    grouped = sum(len(group["params"]) for group in engine.optimizer.param_groups)
    assert grouped == len(engine.masters)


def gradient_sizes(config: RunConfig) -> dict[tuple, float]:
    """Root mean square gradient of each kind of weight after two steps."""
    engine, found = Engine(config), {}
    x, y = batch(config.model, 0)
    for _ in range(2):
        engine.gradients(x, y)
        engine.update(config.optim.lr)
    engine.gradients(x, y)
    for name, weight in engine.masters.items():
        key = kind_of(name, weight)
        key = key if key[1] else name
        found.setdefault(key, []).append(weight.grad.square().mean())
    return {key: torch.stack(sizes).mean().sqrt().item() for key, sizes in found.items()}


@pytest.mark.parametrize(("width", "layers"), [(128, 2), (32, 16)])
def test_eps_follows_the_size_of_gradients(width, layers):
    small = gradient_sizes(toy("completep", init="gpt2"))
    large = toy("completep", width, layers, init="gpt2")
    for key, size in gradient_sizes(large).items():
        rule = adamw_rule(large.model, key == (True, True), key in ((True, True), (False, True)))
        assert size / small[key] == pytest.approx(rule.eps, rel=0.45), key


def test_normalised_queries_and_keys_keep_their_scores():
    for scaling in ("mup", "completep"):
        design = tiny_design("mytnano", scaling=scaling)
        assert query_factor(design) < 1 and query_factor(design.but(qk_norm=True)) == 1


def test_only_adamw_has_rules():
    with pytest.raises(ValueError, match="rules for adamw only"):
        toy("mup").but(optim={"optimizer": "muon"})


def test_a_design_is_resized_with_as_large_heads():
    wide = resized(TOY.model, 128)
    assert (wide.heads, wide.kv_heads, wide.ffn_width) == (8, 4, 384)
    with pytest.raises(ValueError, match="cannot follow"):
        resized(TOY.model, 40)


@pytest.mark.parametrize("scaling", ["mup", "completep"])
def test_training_moves_activations_alike_at_every_width(scaling):
    found = growth(coordinates(toy(scaling), "width", (32, 64, 128), 3, 0))
    assert all(abs(power) < 0.3 for power in found.values()), found


def test_under_standard_rules_it_moves_wide_models_more():
    found = growth(coordinates(toy("standard"), "width", (32, 64, 128), 3, 0))
    assert all(power > 0.6 for power in found.values()), found


def test_depth_is_followed_by_completep_alone():
    deep = {
        scaling: growth(coordinates(toy(scaling), "layers", (2, 4, 8), 3, 0))
        for scaling in ("standard", "mup", "completep")
    }
    for name in ("stream", "states", "logits"):
        assert abs(deep["completep"][name]) < 0.15, deep
        assert deep["standard"][name] > 0.35 and deep["mup"][name] > 0.35, deep
