"""A user's own module as an arm: it takes part like ours, and one that cheats is refused."""

import pytest
import torch
from lab_toys import ask

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.lab.contract import check_contract
from mytnano.measure.flops import forward_flops_per_token
from mytnano.model.init import initialise
from mytnano.model.own import code_hash, load_class, references
from mytnano.model.transformer import Transformer
from mytnano.training.engine import Engine

MINE = '''
import torch
from torch import nn


class FFN(nn.Module):
    """Ours with GELU, written again."""

    def __init__(self, config):
        super().__init__()
        self.up = nn.Linear(config.width, config.ffn_width, bias=False)
        self.down = nn.Linear(config.ffn_width, config.width, bias=False)

    def forward(self, x):
        return self.down(nn.functional.gelu(self.up(x)))


class Decay(nn.Module):
    """A causal mean with a learned weight of the past."""

    def __init__(self, config):
        super().__init__()
        self.rate = nn.Parameter(torch.zeros(config.width))

    def forward(self, x):
        count = torch.arange(1, x.shape[1] + 1).unsqueeze(-1)
        return x.cumsum(1) / count * self.rate.sigmoid()


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x / x.abs().mean(-1, keepdim=True).clamp_min(1e-5) * self.gain


class Positions(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.table = nn.Parameter(torch.randn(config.context, config.width))

    def forward(self, x):
        return x + self.table[: x.shape[1]]


class Peeks(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.width))

    def forward(self, x):
        return x.mean(1, keepdim=True).expand_as(x) * self.weight


class NextToken(Peeks):
    def forward(self, x):
        return x.roll(-1, 1) * self.weight


class Batch(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return (x - x.mean(0, keepdim=True)) * self.weight


class Narrow(Peeks):
    def forward(self, x):
        return x[..., :1]


class Crashes(Peeks):
    def forward(self, x):
        raise RuntimeError("no such luck")


class Idle(Peeks):
    def forward(self, x):
        return x.relu()


class NotANumber(Peeks):
    def forward(self, x):
        return x * float("nan") * self.weight


class Restless(nn.Module):
    def __init__(self, config):
        super().__init__()
        import random
        self.weight = nn.Parameter(torch.full((config.width,), random.SystemRandom().random()))

    def forward(self, x):
        return x * self.weight


class NoModule:
    def __init__(self, config):
        pass


class Picky(nn.Module):
    def __init__(self, config, more):
        super().__init__()
'''


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)


def design(**changes):
    start = RunConfig().model.but(
        width=16, heads=2, kv_heads=2, layers=2, ffn_width=32, ffn="gelu", vocab_size=50, context=20
    )
    return start.but(**changes)


GOOD = [{"ffn": "FFN"}, {"mixer": "Decay"}, {"norm": "Norm"}, {"positions": "Positions"}]
ALL = {key: f"./mine.py:{name}" for each in GOOD for key, name in each.items()}


@pytest.mark.parametrize("own", GOOD, ids=lambda own: next(iter(own)))
def test_an_honest_module_passes_and_learns(own):
    config = design(**{key: f"./mine.py:{name}" for key, name in own.items()})
    check_contract(config)
    run = RunConfig(model=config)
    engine = Engine(run)
    x = torch.randint(0, 50, (8, 20), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(30):
        losses.append(engine.gradients(x, (3 * x + 1) % 50).item())
        engine.update(5e-3)
    assert losses[-1] < 0.8 * losses[0]


BAD = [
    ("mixer", "Peeks", "leaks the future"),
    ("mixer", "NextToken", "leaks the future"),
    ("ffn", "Peeks", "leaks the future"),
    ("norm", "Batch", "mixes the windows of a batch"),
    ("ffn", "Narrow", "shape"),
    ("ffn", "Crashes", "RuntimeError: no such luck"),
    ("ffn", "Idle", "takes no part"),
    ("ffn", "NotANumber", "not numbers"),
    ("ffn", "Restless", "does not start the same"),
    ("ffn", "NoModule", "makes no torch.nn.Module"),
    ("ffn", "Picky", "cannot be made from the model's config: TypeError"),
    ("ffn", "Missing", "mine.py has no class Missing"),
]


@pytest.mark.parametrize(("setting", "name", "words"), BAD)
def test_a_dishonest_or_broken_module_is_refused(setting, name, words):
    changes = {setting: f"./mine.py:{name}"}
    if name == "Narrow":
        changes["residual"] = False
    with pytest.raises(UserError, match=words) as caught:
        check_contract(design(**changes))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match=r"'no.py' is not a file"):
        load_class("no.py:FFN")
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    with pytest.raises(UserError, match=r"broken.py cannot be run: ModuleNotFoundError"):
        load_class("broken.py:FFN")
    with pytest.raises(ValueError, match="ffn"):
        design(ffn="mine.txt:FFN")


def test_initial_weights_pair_across_designs_and_differ_between_places():
    first, again = Transformer(design(**ALL)), Transformer(design(**ALL, layers=3))
    initialise(first, 0)
    initialise(again, 0)
    one, other = dict(first.named_parameters()), dict(again.named_parameters())
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert not torch.equal(one["blocks.0.ffn.up.weight"], one["blocks.1.ffn.up.weight"])
    initialise(again, 0, salt="twin")
    assert not torch.equal(one["own_position.table"], again.own_position.table)
    ours = Transformer(design())
    initialise(ours, 0)
    assert torch.equal(ours.embedding.weight, first.embedding.weight)


def test_the_files_content_is_part_of_the_run(tmp_path):
    config = design(ffn="./mine.py:FFN")
    planned = config.but(own_code=code_hash(references(config)))
    assert RunConfig(model=planned).hash != RunConfig(model=config).hash
    Engine(RunConfig(model=planned))
    (tmp_path / "mine.py").write_text(MINE + "\n# changed\n")
    assert code_hash(references(config)) != planned.own_code
    with pytest.raises(UserError, match="has changed since this run was planned"):
        Engine(RunConfig(model=planned))


def test_operations_are_counted():
    ours, own = design(), design(ffn="./mine.py:FFN")
    assert forward_flops_per_token(own) == forward_flops_per_token(ours)
    cheap = design(mixer="./mine.py:Decay")
    assert forward_flops_per_token(cheap) < forward_flops_per_token(ours)


def test_an_own_module_as_an_arm(tmp_path):
    found, _ = ask(tmp_path, arms={"mine": {"ffn": "./mine.py:FFN"}}, seeds=3)
    assert found.plan.arms[0].factors == ("model.ffn: gelu -> ./mine.py:FFN",)
    assert found.plan.arms[0].config.model.own_code
    assert found.verdicts[0].pairs == 3
    with pytest.raises(UserError, match=r"arm 'peeks': ./mine.py:Peeks leaks the future"):
        ask(tmp_path, out="other", arms={"peeks": {"mixer": "./mine.py:Peeks"}})
    assert not (tmp_path / "other/runs").exists()
