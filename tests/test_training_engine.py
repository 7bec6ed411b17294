"""One optimizer step: micro-batches, precision, clipping and decay change what they should."""

import pytest
import torch
import torch.nn.functional as F
from loop_toys import batch, run_config, trained

from mytnano.training import engine as engine_module
from mytnano.training.engine import Engine


def test_gradients_are_those_of_the_mean_loss():
    config = run_config()
    engine, (x, y) = Engine(config), batch(config)
    loss = engine.gradients(x, y)
    other = Engine(config).model
    expected = F.cross_entropy(other.logits(x).flatten(0, 1), y.flatten())
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for name, parameter in other.named_parameters():
        torch.testing.assert_close(
            engine.masters[name].grad, parameter.grad, rtol=1e-4, atol=1e-7, msg=name
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tokens", [1, 16, 80, 176])
def test_micro_batches_equal_one_batch(monkeypatch, tokens, precision):
    config = run_config("logged-init", precision)
    whole, parts = Engine(config), Engine(config)
    x, y = batch(config)
    expected = whole.gradients(x, y)
    monkeypatch.setattr(engine_module, "MICRO_TOKENS", tokens)
    assert len(parts._micro_batches(x)) > 1
    loss = parts.gradients(x, y)
    rough = precision == "bf16"
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3 if rough else 1e-6)
    for name, master in whole.masters.items():
        error = (parts.masters[name].grad - master.grad).norm() / master.grad.norm()
        assert error < (0.03 if rough else 1e-5), name


def test_masters_are_fp32_and_the_model_works_in_bf16():
    config = run_config(precision="bf16")
    start = Engine(config.but(train={"precision": "fp32"})).masters
    assert all(torch.equal(start[n], p) for n, p in Engine(config).masters.items())
    engine, _ = trained(config, 3)
    for name, parameter in engine.model.named_parameters():
        master = engine.masters[name]
        assert parameter.dtype == torch.bfloat16 and master.dtype == torch.float32
        assert torch.equal(parameter, master.bfloat16())
        assert engine.optimizer.state[master]["exp_avg"].dtype == torch.float32
        assert parameter.grad is None and not master.grad.any()
    assert any(
        not torch.equal(master, master.bfloat16().float()) for master in engine.masters.values()
    )


def test_masters_gather_steps_that_bf16_would_lose():
    config = run_config(precision="bf16", weight_decay=0.0)
    engine = Engine(config)
    name = "blocks.0.mixer.query.weight"
    start = engine.masters[name].clone()
    for step in range(20):
        engine.gradients(*batch(config, step))
        engine.update(1e-6)  # far below the spacing of bf16 numbers
    moved = (engine.masters[name] - start).abs().mean()
    assert 1e-6 < moved < 3e-5


def test_in_fp32_the_masters_are_the_models_own():
    engine = Engine(run_config())
    for name, parameter in engine.model.named_parameters():
        assert engine.masters[name] is parameter


@pytest.mark.parametrize("id", ["bigram", "average-current", "pre-norm", "mytnano"])
def test_bf16_learns_what_fp32_learns(id):
    _, exact = trained(run_config(id, lr=5e-3), 40)
    _, rough = trained(run_config(id, "bf16", lr=5e-3), 40)
    assert exact[-1] < 0.7 * exact[0]
    assert rough == pytest.approx(exact, rel=0.03)


def test_exact_model_is_a_copy_of_the_masters():
    config = run_config("logged-init", "bf16")
    engine, _ = trained(config, 2)
    exact = engine.exact_model()
    assert exact.head.weight is exact.embedding.weight
    for name, parameter in exact.named_parameters():
        assert parameter.dtype == torch.float32 and torch.equal(parameter, engine.masters[name])
    with torch.no_grad():
        exact.embedding.weight.zero_()
        assert engine.masters["embedding.weight"].any()
        assert exact(batch(config)[0]).dtype == torch.float32
        assert engine.model(batch(config)[0]).dtype == torch.bfloat16


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_clipping(precision):
    config = run_config(precision=precision, grad_clip=0.05)
    engine = Engine(config)
    engine.gradients(*batch(config))
    gradients = [p.grad.clone() for p in engine.masters.values()]
    expected = torch.stack([g.norm() for g in gradients]).norm()
    seen = []
    engine.optimizer.step = lambda: seen.extend(p.grad.clone() for p in engine.masters.values())
    norm = engine.update(1e-3)
    torch.testing.assert_close(norm, expected)
    assert norm > 0.05
    for before, after in zip(gradients, seen, strict=True):
        torch.testing.assert_close(after, before * 0.05 / norm, rtol=1e-3, atol=1e-9)


def test_no_clipping_at_zero():
    config = run_config(grad_clip=0.0)
    engine = Engine(config)
    engine.gradients(*batch(config))
    gradients = [p.grad.clone() for p in engine.masters.values()]
    seen = []
    engine.optimizer.step = lambda: seen.extend(p.grad.clone() for p in engine.masters.values())
    engine.update(1e-3)
    assert all(torch.equal(a, b) for a, b in zip(gradients, seen, strict=True))


def test_adamw_by_hand():
    optim = {"lr": 0.01, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.5, "grad_clip": 0.0}
    config = run_config("pre-norm", **optim)
    engine = Engine(config)
    names = ["blocks.0.ffn.up.weight", "blocks.0.ffn_norm.weight", "embedding.weight"]
    weights = {n: engine.masters[n].detach().clone().double() for n in names}
    first = {n: torch.zeros_like(w) for n, w in weights.items()}
    second = {n: torch.zeros_like(w) for n, w in weights.items()}
    for step in range(1, 4):
        engine.gradients(*batch(config, step))
        for name, weight in weights.items():
            grad = engine.masters[name].grad.double()
            first[name] = 0.8 * first[name] + 0.2 * grad
            second[name] = 0.9 * second[name] + 0.1 * grad**2
            if weight.ndim > 1:
                weight *= 1 - 0.01 * 0.5
            scale = (second[name] / (1 - 0.9**step)).sqrt() + 1e-8
            weight -= 0.01 * first[name] / (1 - 0.8**step) / scale
        engine.update(0.01)
    for name, weight in weights.items():
        torch.testing.assert_close(
            engine.masters[name].double(), weight, rtol=1e-4, atol=1e-4, msg=name
        )


def test_gains_and_biases_do_not_decay():
    engine = Engine(run_config("pre-norm"))
    decaying, kept = engine.optimizer.param_groups
    assert decaying["weight_decay"] == 0.1 and kept["weight_decay"] == 0.0
    assert {p.ndim for p in decaying["params"]} == {2} and {p.ndim for p in kept["params"]} == {1}
    count = len(decaying["params"]) + len(kept["params"])
    assert count == len(list(engine.model.parameters()))


def test_the_rate_is_the_one_given():
    config = run_config()
    engine = Engine(config)
    before = {n: p.detach().clone() for n, p in engine.masters.items()}
    engine.gradients(*batch(config))
    engine.update(0.0)
    assert all(torch.equal(before[n], p) for n, p in engine.masters.items())


def test_seed_and_salt_make_the_weights():
    one, same, twin, other = (
        Engine(run_config().but(train=train)).masters["embedding.weight"]
        for train in ({}, {}, {"salt": "twin"}, {"seed": 1})
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, twin) and not torch.equal(one, other)


def test_without_a_compiler_it_runs_and_says_so(monkeypatch):
    monkeypatch.setattr(engine_module, "can_compile", lambda device: False)
    config = run_config().but(train={"compile": True})
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler"):
        _, losses = trained(config, 3)
    assert losses == trained(run_config(), 3)[1]


def test_a_compiler_that_fails_leaves_it_uncompiled(monkeypatch):
    tried = []

    def broken(function, **options):
        def fails(*arguments, **named):
            tried.append(function)
            raise RuntimeError("no Python.h\nand more")

        return fails

    monkeypatch.setattr(engine_module, "can_compile", lambda device: True)
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match=r"uncompiled \(RuntimeError: no Python.h\): slower"):
        _, losses = trained(run_config().but(train={"compile": True}), 3)
    assert losses == trained(run_config(), 3)[1] and len(tried) == 1


def test_what_was_compiled_is_forgotten_before_pytorch_refuses_more(monkeypatch):
    resets = []
    monkeypatch.setattr(engine_module, "_shapes", set())
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append(True))
    configs = [run_config(model={"layers": n}) for n in range(1, engine_module.SHAPES + 2)]
    for config in [*configs[:-1], *configs[:-1]]:
        engine_module.make_room(config)
    assert not resets
    engine_module.make_room(configs[-1])
    assert len(resets) == 1


def test_gradients_are_clipped_where_pytorch_has_no_batched_kernels(monkeypatch):
    for name in ("_device_has_foreach_support", "_has_foreach_support"):
        monkeypatch.setattr(torch.nn.utils.clip_grad, name, lambda *arguments: False)
    config = run_config()
    engine = Engine(config)
    engine.gradients(*batch(config))
    engine.config = config.but(train={"device": "mps"})
    assert engine.update(1e-3) > 0


@pytest.mark.extras
@pytest.mark.skipif(not engine_module.can_compile(), reason="needs a C++ compiler")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_learns_the_same(precision):
    config = run_config(precision=precision, lr=3e-3)
    _, eager = trained(config, 10)
    _, fast = trained(config.but(train={"compile": True}), 10)
    assert fast == pytest.approx(eager, rel=1e-4 if precision == "fp32" else 0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_blocks_give_the_same_bits(precision):
    config = run_config("mytnano", precision, {"dropout": 0.2})
    found = []
    for recompute in (False, True):
        engine = Engine(config.but(train={"recompute": recompute}))
        engine.model.train()
        losses = []
        for step in range(3):
            torch.manual_seed(step)
            losses.append(engine.gradients(*batch(config, step)).item())
            engine.update(1e-2)
        found.append((losses, engine.masters))
        exact = engine.exact_model()
        assert exact(batch(config)[0]).isfinite().all()
    assert found[0][0] == found[1][0]
    assert all(torch.equal(w, found[1][1][name]) for name, w in found[0][1].items())


def test_recomputing_keeps_less():
    held = []
    for recompute in (False, True):
        engine = Engine(run_config().but(train={"recompute": recompute}))
        saved = 0

        def pack(tensor):
            nonlocal saved
            saved += tensor.numel()
            return tensor

        x = engine.model.embedding(batch(run_config())[0]).detach().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            engine.model.encode(x)
        held.append(saved)
    assert held[1] < held[0] / 3


@pytest.mark.parametrize("windows", [1, 5, 12])
def test_micro_windows_equal_one_batch(windows):
    config = run_config("logged-init")
    whole, parts = Engine(config), Engine(config.but(train={"micro_windows": windows}))
    x, y = batch(config)
    assert len(parts._micro_batches(x)) == -(-len(x) // windows)
    losses = [engine.gradients(x, y).item() for engine in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for name, master in whole.masters.items():
        error = (parts.masters[name].grad - master.grad).norm() / master.grad.norm()
        assert error < 1e-5, name
