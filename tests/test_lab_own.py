"""A user's own module as an arm: it takes part like ours, and one that cheats is refused."""

import pytest
import torch
from lab_toys import ask

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.measure.flops import forward_flops_per_token
from mytnano.model.init import initialise
from mytnano.model.own import code_hash, load_class, references
from mytnano.model.transformer import Transformer
from mytnano.training.contract import check_contract
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


class Gated(nn.Module):
    """The future behind a gain that starts at zero."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.gate * x.roll(-1, 1)


class Far(Peeks):
    def forward(self, x):
        return nn.functional.pad(x, (0, 0, 0, 32))[:, 32:] * self.weight


class InTraining(Peeks):
    def forward(self, x):
        return (x.mean(1, keepdim=True) if self.training else x) * self.weight


class Running(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        if self.training:
            self.seen += 1
        return x * self.gain


class Frozen(Peeks):
    def __init__(self, config):
        super().__init__(config)
        self.more = nn.Parameter(torch.ones(config.width), requires_grad=False)

    def forward(self, x):
        return x * self.weight * self.more


class Reseeds(FFN):
    def __init__(self, config):
        torch.manual_seed(0)
        super().__init__(config)


class InPlace(Peeks):
    def forward(self, x):
        y = (x * self.weight).exp()
        y += 1
        return y


class Leaves(nn.Module):
    def __init__(self, config):
        raise SystemExit


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


class Copy(nn.Module):
    """Our attention, written again."""

    def __init__(self, config):
        super().__init__()
        self.heads = config.heads
        self.project = nn.Linear(config.width, 3 * config.width, bias=False)
        self.output = nn.Linear(config.width, config.width, bias=False)

    def split(self, x):
        B, T, D = x.shape
        parts = self.project(x).view(B, T, 3, self.heads, D // self.heads)
        return parts.permute(2, 0, 3, 1, 4)

    def forward(self, x):
        q, k, v = self.split(x)
        T = x.shape[1]
        mask = torch.full((T, T), float("-inf")).triu(1)
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + mask
        return self.output((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Fused(Copy):
    def forward(self, x):
        q, k, v = self.split(x)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output(y.transpose(1, 2).flatten(2))


class Heavy(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.matrix = nn.Linear(width, width, bias=False)

    def forward(self, x):
        return self.matrix(x)


class Quiet(FFN):
    into_the_stream = ("down.weight",)


class Draws(FFN):
    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("noise", torch.randn(config.width), persistent=False)

    def forward(self, x):
        return super().forward(x) + self.noise


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
        width=16, heads=2, kv_heads=2, layers=2, ffn_width=32, ffn="gelu", vocab_size=50, context=48
    )
    return start.but(**changes)


GOOD = [{"ffn": "FFN"}, {"mixer": "Decay"}, {"norm": "Norm"}, {"positions": "Positions"}]
ALL = {key: f"./mine.py:{name}" for each in GOOD for key, name in each.items()}


@pytest.mark.parametrize("own", GOOD, ids=lambda own: next(iter(own)))
def test_an_honest_module_passes_and_learns(own):
    config = design(**{key: f"./mine.py:{name}" for key, name in own.items()})
    run = RunConfig(model=config)
    check_contract(run)
    engine = Engine(run)
    x = torch.randint(0, 50, (8, 48), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(30):
        losses.append(engine.gradients(x, (3 * x + 1) % 50).item())
        engine.update(5e-3)
    assert losses[-1] < 0.8 * losses[0]


BAD = [
    ("mixer", "Peeks", "leaks the future"),
    ("mixer", "Gated", "leaks the future"),
    ("mixer", "Far", "leaks the future"),
    ("mixer", "InTraining", "leaks the future"),
    ("norm", "Running", "seen changes while the module trains"),
    ("ffn", "Frozen", "is a weight that is not trained"),
    ("ffn", "Reseeds", "seeds PyTorch's generator itself"),
    ("ffn", "InPlace", "cannot be trained in fp32 on cpu: RuntimeError"),
    ("ffn", "Leaves", "cannot be made from the model's config: SystemExit"),
    ("mixer", "NextToken", "leaks the future"),
    ("ffn", "Peeks", "leaks the future"),
    ("norm", "Batch", "mixes the windows of a batch"),
    ("ffn", "Narrow", "return the shape of the input"),
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
    with pytest.raises(UserError, match=words) as caught:
        check_contract(RunConfig(model=design(**changes)))
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
    plain = forward_flops_per_token(design())
    for name in ("Copy", "Fused"):  # whichever kernel computes it
        found = forward_flops_per_token(design(mixer=f"./mine.py:{name}"))
        assert found == pytest.approx(plain, rel=1e-6), name
    heavy = forward_flops_per_token(design(norm="./mine.py:Heavy", norm_place="pre"))
    assert heavy == plain + (2 * 2 + 1) * 2 * 16 * 16


def test_weights_that_write_into_the_stream_start_as_ours_do():
    quiet, loud = (
        Transformer(design(ffn="./mine.py:Quiet", init=init)) for init in ("zero-out", "torch")
    )
    for model in (quiet, loud):
        initialise(model, 0)
    assert not quiet.blocks[0].ffn.down.weight.any() and quiet.blocks[0].ffn.up.weight.any()
    assert loud.blocks[0].ffn.down.weight.any()


def test_drawn_buffers_repeat():
    config = RunConfig(model=design(ffn="./mine.py:Draws"))
    check_contract(config)
    one, two = (Engine(config).model.blocks[0].ffn.noise for _ in range(2))
    assert torch.equal(one, two) and one.any()


def test_an_own_module_as_an_arm(tmp_path):
    found, _ = ask(tmp_path, arms={"mine": {"ffn": "./mine.py:FFN"}}, seeds=4, alpha=0.2)
    assert found.plan.arms[0].factors == ("model.ffn: gelu -> ./mine.py:FFN",)
    assert found.plan.arms[0].config.model.own_code
    assert found.verdicts[0].pairs >= 3
    with pytest.raises(UserError, match=r"arm 'peeks': ./mine.py:Peeks leaks the future"):
        ask(tmp_path, out="other", arms={"peeks": {"mixer": "./mine.py:Peeks"}})
    assert not (tmp_path / "other/runs").exists()
