"""A user's own optimizer as an arm: it takes part like ours; one that breaks a run is refused."""

import json

import pytest
import torch
from lab_toys import ask, question, where

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.lab.match import run_flops
from mytnano.lab.plan import make_plan
from mytnano.lab.spec import read_spec
from mytnano.model.own import with_own_code
from mytnano.training import contract_optimizer
from mytnano.training.contract_optimizer import check_optimizer
from mytnano.training.engine import Engine
from mytnano.training.optimizers import update_flops

MINE = '''
import random

import torch
from torch.optim import Optimizer


class Signum(Optimizer):
    """Sign of a momentum, which warms up by a count of its own."""

    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr, momentum=0.9))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.move(p, group, self.state[p])

    def move(self, p, group, state):
        if not state:
            state["buffer"], state["count"], state["seen"] = torch.zeros_like(p), 0, 0.0
        state["count"] += 1
        state["seen"] += p.grad.norm().item()
        state["buffer"].lerp_(p.grad, 1 - group["momentum"])
        warm = 1 - group["momentum"] ** state["count"]
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_((state["buffer"] / warm).sign(), alpha=-group["lr"])


class Roles(Signum):
    """Another momentum for each kind of weight; a number in the group."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        for group in self.param_groups:
            group["momentum"] = {"matrix": 0.9, "table": 0.5, "vector": 0.8}[group["role"]]
            group["steps"] = 0

    def step(self):
        for group in self.param_groups:
            group["steps"] += 1
            group["momentum"] = min(0.95, group["momentum"] + 0.01 * group["steps"])
        super().step()


class Noisy(Signum):
    def move(self, p, group, state):
        super().move(p, group, state)
        p.add_(torch.randn_like(p), alpha=0.1 * group["lr"])


class Heavy(Signum):
    def move(self, p, group, state):
        super().move(p, group, state)
        if p.ndim == 2:
            p.T @ p


class Frozen(Signum):
    def move(self, p, group, state):
        if p.ndim > 1:
            super().move(p, group, state)


class Forgets(Signum):
    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.steps = 0

    def step(self):
        self.steps += 1
        super().step()

    def move(self, p, group, state):
        super().move(p, {**group, "lr": group["lr"] / self.steps}, state)


class Lists(Signum):
    def move(self, p, group, state):
        super().move(p, group, state)
        state.setdefault("history", []).append(1)


class Deaf(Signum):
    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.rate = 1e-3

    def move(self, p, group, state):
        super().move(p, {**group, "lr": self.rate}, state)


class Restless(Signum):
    def move(self, p, group, state):
        super().move(p, group, state)
        p.mul_(1 + 1e-3 * random.SystemRandom().random())


class Breaks(Signum):
    def move(self, p, group, state):
        p.mul_(float("nan"))


class Crashes(Signum):
    def step(self):
        raise RuntimeError("no such luck\\nat all")


class Some(Signum):
    def __init__(self, params, lr):
        super().__init__(params[0]["params"], lr)
        self.param_groups[0]["weight_decay"] = 0.0


class Picky(Signum):
    def __init__(self, params, lr, more):
        super().__init__(params, lr)


class Plain:
    def __init__(self, params, lr):
        pass
'''
GOOD = ["Signum", "Roles", "Noisy", "Heavy"]


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)


def design(name, precision="fp32", **optim):
    start = RunConfig().but(
        model={
            "width": 16, "heads": 2, "kv_heads": 2, "layers": 2, "ffn_width": 32, "ffn": "gelu",
            "vocab_size": 50, "context": 24, "init": "zero-out",
        },
        optim={"optimizer": f"./mine.py:{name}", **optim},
        train={"precision": precision},
    )  # fmt: skip
    return start


@pytest.mark.parametrize("name", GOOD)
def test_an_honest_optimizer_passes_and_learns(name):
    config = design(name, lr=3e-3)
    check_optimizer(config)
    engine = Engine(config)
    x = torch.randint(0, 50, (8, 24), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(30):
        losses.append(engine.gradients(x, (3 * x + 1) % 50).item())
        engine.update(3e-3)
    assert losses[-1] < 0.8 * losses[0]


def test_in_bf16_too():
    check_optimizer(design("Roles", "bf16"))


BAD = [
    ("Frozen", "never moves blocks.0.mixer_norm.weight"),
    ("Forgets", "goes on otherwise after a checkpoint"),
    ("Lists", r"keeps a list in its state \('history'\), which a checkpoint cannot hold"),
    ("Deaf", "at another learning rate: read group\\['lr'\\]"),
    ("Restless", "does not do the same for the same seed"),
    ("Breaks", "something that is not a number"),
    ("Crashes", "fails in its step: RuntimeError: no such luck"),
    ("Some", "does not keep in param_groups each weight"),
    ("Picky", "cannot be made from .param_groups, lr=....: TypeError"),
    ("Plain", "is no subclass of torch.optim.Optimizer"),
    ("Missing", "mine.py has no class Missing"),
]


@pytest.mark.parametrize(("name", "words"), BAD)
def test_one_that_breaks_a_run_is_refused(name, words):
    with pytest.raises(UserError, match=words) as caught:
        check_optimizer(design(name))
    assert "\n" not in str(caught.value)


def test_ours_are_not_tested(monkeypatch):
    built = []

    def engine(config):
        built.append(config.optim.optimizer)
        raise UserError("built")

    monkeypatch.setattr(contract_optimizer, "Engine", engine)
    for name in ("adamw", "muon", "lion"):
        check_optimizer(RunConfig().but(optim={"optimizer": name}))
    assert built == []
    with pytest.raises(UserError, match="built"):
        check_optimizer(design("Roles"))
    assert built == ["./mine.py:Roles"]


def test_of_lion_the_package_must_be_there(monkeypatch):
    def missing():
        raise UserError("no lion here")

    monkeypatch.setattr(contract_optimizer, "lion", missing)
    check_optimizer(RunConfig().but(optim={"optimizer": "muon"}))
    with pytest.raises(UserError, match="no lion here"):
        check_optimizer(RunConfig().but(optim={"optimizer": "lion"}))


def test_groups_say_what_they_hold():
    engine = Engine(design("Roles", table_lr=3.0))
    engine.update(1e-2)
    found = {group["role"]: group for group in engine.optimizer.param_groups}
    assert [group["lr"] for group in found.values()] == pytest.approx([1e-2, 3e-2, 1e-2])
    assert found["vector"]["weight_decay"] == 0 and found["table"]["weight_decay"] == 0.1
    tables = {id(engine.masters[f"{name}.weight"]) for name in ("embedding", "position", "head")}
    assert {id(p) for p in found["table"]["params"]} == tables
    assert all(p.ndim == 1 for p in found["vector"]["params"])


def test_the_files_content_is_part_of_the_run(tmp_path):
    config = design("Signum")
    planned = with_own_code(config)
    assert planned.optim.own_code and not planned.model.own_code
    assert planned.hash != config.hash
    Engine(planned)
    (tmp_path / "mine.py").write_text(MINE + "\n# changed\n")
    assert with_own_code(config).hash != planned.hash
    with pytest.raises(UserError, match="has changed since this run was planned"):
        Engine(planned)
    plain = RunConfig()
    assert with_own_code(plain) is plain


def test_its_matrix_products_are_counted():
    assert update_flops(design("Signum")) == 0
    config = design("Heavy")
    matrices = {n: p for n, p in Engine(config).masters.items() if p.ndim == 2}
    expected = sum(2 * p.shape[0] * p.shape[1] ** 2 for p in matrices.values())
    assert update_flops(config) == expected > 0
    difference = run_flops(config) - run_flops(design("Signum"))
    assert difference == pytest.approx(config.steps * expected)


def plan(folder, name):
    asked = question(folder, arms={"mine": {"optimizer": f"./mine.py:{name}"}})
    return make_plan(read_spec(asked), where(folder, asked["corpus"]))


def test_an_own_optimizer_in_a_plan(tmp_path):
    (arm,) = plan(tmp_path, "Noisy").arms
    assert arm.factors == ("optim.optimizer: adamw -> ./mine.py:Noisy",)
    assert arm.config.optim.own_code
    with pytest.raises(UserError, match=r"arm 'mine': ./mine.py:Deaf moves weights alike"):
        plan(tmp_path, "Deaf")


@pytest.mark.extras
def test_an_own_optimizer_as_an_arm(tmp_path):
    arms = {"mine": {"optimizer": "./mine.py:Noisy"}}
    found, _ = ask(tmp_path, arms=arms, seeds=4, alpha=0.2)
    assert found.verdicts[0].pairs >= 3
    plan = json.loads((tmp_path / "out/plan.json").read_text())
    assert plan["arms"]["mine"]["optim"]["own_code"]
