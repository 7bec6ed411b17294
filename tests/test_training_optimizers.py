"""Muon and Lion are the published ones, each weight is in the right hands, FLOPs are counted."""

import sys

import pytest
import torch
from loop_toys import batch, run_config, trained
from model_toys import tiny_design
from torch.utils.flop_counter import FlopCounterMode

from mytnano.config import OptimConfig, RunConfig
from mytnano.errors import UserError
from mytnano.training.engine import Engine
from mytnano.training.optimizers import (
    Muon,
    Several,
    orthogonalised,
    update_flops,
    weight_groups,
)

MODERN = {
    "ffn": "relu2", "norm_gain": False, "qk_norm": True, "softcap": 15.0, "embedding_norm": True,
    "x0_skip": True, "value_embeddings": True, "init": "modern", "layers": 3,
}  # fmt: skip


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_orthogonalised_has_singular_values_near_one_and_the_same_axes(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(matrix, (3.4445, -4.7750, 2.0315), 1e-7)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    core = u.T @ found @ vt.T  # what it makes of the singular values
    assert torch.allclose(core, core.diag().diag(), atol=1e-4)
    assert core.diag().min() > 0.6 and core.diag().max() < 1.3


@pytest.mark.parametrize("shape", [(16, 16), (40, 16), (16, 40)])
def test_muon_is_pytorchs_but_for_its_rounding(shape):
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings = {"lr": 0.02, "weight_decay": 0.3, "momentum": 0.9}
    one = Muon([ours], **settings)
    other = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(4):
        ours.grad = torch.randn(shape, generator=generator)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
    moved = (theirs - start).norm()
    assert moved > 0.01 * start.norm()
    assert (ours - theirs).norm() < 0.03 * moved  # bf16's rounding, over five iterations
    for state in (one.state[ours], other.state[theirs]):
        assert list(state) == ["momentum_buffer"]
    assert torch.equal(one.state[ours]["momentum_buffer"], other.state[theirs]["momentum_buffer"])


def test_a_muon_step_by_hand():
    config = run_config(optimizer="muon", lr=0.01, weight_decay=0.5, momentum=0.8, grad_clip=0.0)
    engine = Engine(config)
    name = "blocks.0.ffn.down.weight"
    weight, buffer = engine.masters[name].detach().clone(), 0.0
    for step in range(2):
        engine.gradients(*batch(config, step))
        gradient = engine.masters[name].grad.clone()
        buffer = 0.8 * buffer + 0.2 * gradient
        ahead = 0.2 * gradient + 0.8 * buffer
        update = orthogonalised(ahead, (3.4445, -4.7750, 2.0315), 1e-7)
        weight = weight * (1 - 0.01 * 0.5) - 0.01 * 0.2 * max(weight.shape) ** 0.5 * update
        engine.update(0.01)
    torch.testing.assert_close(engine.masters[name].detach(), weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_muon_has_the_matrices_of_blocks_and_adamw_the_rest(precision):
    engine, _ = trained(run_config("mytnano", precision, MODERN, optimizer="muon"), 1)
    assert isinstance(engine.optimizer, Several)
    for name, weight in engine.masters.items():
        hidden = name.startswith("blocks.") and weight.ndim == 2
        keys = {"momentum_buffer"} if hidden else {"step", "exp_avg", "exp_avg_sq"}
        assert set(engine.optimizer.state[weight]) == keys, name
    owned = [p for group in engine.optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, owned)) == sorted(map(id, engine.masters.values()))


def test_a_bigram_has_no_matrix_for_muon():
    config = RunConfig(model=tiny_design("bigram")).but(optim={"optimizer": "muon"})
    assert isinstance(Engine(config).optimizer, torch.optim.AdamW)
    assert update_flops(config) == 0


def test_lion_by_hand():
    """Algorithm 2 of Chen et al. 2023."""
    config = run_config(
        optimizer="lion", lr=1e-3, beta1=0.8, beta2=0.9, weight_decay=0.5, grad_clip=0.0
    )
    engine = Engine(config)
    names = ["blocks.0.ffn.up.weight", "blocks.0.ffn_norm.weight", "embedding.weight"]
    weights = {name: engine.masters[name].detach().clone() for name in names}
    momentum = dict.fromkeys(names, 0.0)
    for step in range(3):
        engine.gradients(*batch(config, step))
        for name in names:
            gradient = engine.masters[name].grad
            update = (0.8 * momentum[name] + 0.2 * gradient).sign()
            decay = 0.5 if weights[name].ndim > 1 else 0.0
            weights[name] -= 1e-3 * (update + decay * weights[name])
            momentum[name] = 0.9 * momentum[name] + 0.1 * gradient
        engine.update(1e-3)
    for name in names:
        difference = (engine.masters[name] - weights[name]).abs()
        # A sum that is zero but for rounding may have either sign.
        assert (difference > 1e-6).float().mean() < 0.01, name


def test_without_its_package_lion_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lion_pytorch", None)
    with pytest.raises(UserError, match="lion needs the package lion-pytorch: run"):
        Engine(run_config(optimizer="lion"))


@pytest.mark.parametrize(
    ("optimizer", "precision"), [("muon", "fp32"), ("muon", "bf16"), ("lion", "fp32")]
)
def test_they_learn(optimizer, precision):
    lr = 5e-3 if optimizer == "muon" else 2e-3
    _, losses = trained(run_config("mytnano", precision, MODERN, optimizer=optimizer), 15, lr)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "lion"])
def test_tables_may_have_a_rate_of_their_own(optimizer):
    config = run_config(model=MODERN, optimizer=optimizer, table_lr=4.0, lr=1e-3)
    engine, _ = trained(config, 2)
    start = Engine(config).masters
    rates = {id(p): group["lr"] for group in engine.optimizer.param_groups for p in group["params"]}
    for name, weight in engine.masters.items():
        table = name in ("embedding.weight", "value_embedding.weight", "head.weight")
        assert rates[id(weight)] == pytest.approx(4e-3 if table else 1e-3), name
    plain, _ = trained(config.but(optim={"table_lr": 1.0}), 2)
    ratio = {
        name: (engine.masters[name] - start[name]).norm()
        / (plain.masters[name] - start[name]).norm()
        for name in ("head.weight", "embedding.weight")
    }
    assert all(3 < value < 5 for value in ratio.values()), ratio


def test_groups_are_two_where_one_rate_is_for_all():
    masters = Engine(run_config(model=MODERN)).masters
    roles = lambda **optim: [g["role"] for g in weight_groups(masters, OptimConfig(**optim))]
    assert roles() == ["matrix", "vector"]
    assert roles(table_lr=2.0) == roles(optimizer="a.py:B") == ["matrix", "table", "vector"]
    decays = [g["weight_decay"] for g in weight_groups(masters, OptimConfig(table_lr=2.0))]
    assert decays == [0.1, 0.1, 0.0]


def test_operations_of_an_update_are_counted():
    config = run_config(model=MODERN, optimizer="muon")
    engine = Engine(config)
    engine.gradients(*batch(config))
    with FlopCounterMode(display=False) as counter:
        engine.optimizer.step()
    assert update_flops(config) == counter.get_total_flops() > 0
    assert update_flops(run_config()) == update_flops(run_config(optimizer="lion")) == 0


def test_the_average_is_that_of_the_weights():
    config = run_config(ema=0.9)
    plain, engine = Engine(run_config()), Engine(config)
    expected = {name: p.detach().clone() for name, p in plain.masters.items()}
    for step in range(12):
        for each in (plain, engine):
            each.gradients(*batch(config, step))
            each.update(1e-2)
        decay = min(0.9, (2 + step) / (11 + step))
        for name, value in expected.items():
            value.lerp_(plain.masters[name].detach(), 1 - decay)
    for name, value in expected.items():
        assert torch.equal(engine.masters[name], plain.masters[name]), "it does not touch training"
        torch.testing.assert_close(engine.average[name], value)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_average_takes_the_models_place_and_leaves_it_again(precision):
    engine, _ = trained(run_config("mytnano", precision, ema=0.95), 5, 1e-2)
    masters = {name: p.detach().clone() for name, p in engine.masters.items()}
    average = {name: p.clone() for name, p in engine.average.items()}
    with pytest.raises(KeyboardInterrupt), engine.averaged():
        exact = dict(engine.exact_model().named_parameters())
        for name, parameter in engine.model.named_parameters():
            assert torch.equal(parameter, average[name].to(parameter.dtype))
            assert torch.equal(exact[name], average[name])
        raise KeyboardInterrupt
    for name, parameter in engine.model.named_parameters():
        assert torch.equal(engine.masters[name], masters[name])
        assert torch.equal(parameter, masters[name].to(parameter.dtype))
        assert torch.equal(engine.average[name], average[name])
        assert not torch.equal(masters[name], average[name])


def test_without_an_average_nothing_is_swapped():
    engine, _ = trained(run_config(), 2)
    before = engine.masters["head.weight"].detach().clone()
    with engine.averaged():
        assert torch.equal(engine.masters["head.weight"], before) and engine.average is None
