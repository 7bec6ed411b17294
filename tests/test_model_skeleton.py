"""Every place that counts the parameters of a design counts the same, users' modules among them."""

import pytest
import torch
from model_toys import HEALTHY

from mytnano.config import RunConfig
from mytnano.designs.recipes import parameters as of_recipe
from mytnano.designs.recipes import sized
from mytnano.lab.match import parameters as of_arm
from mytnano.measure.memory_plan import count_weights
from mytnano.model.skeleton import parameter_count, skeleton
from mytnano.model.transformer import Transformer
from mytnano.training.optimizers import update_flops

OWN = """
import torch
from torch import nn


class Scaled(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.up = nn.Linear(config.width, 3, bias=False)
        self.down = nn.Linear(3, config.width, bias=False)
        self.scale = float(self.up.weight.detach().abs().mean())  # not a number of a meta tensor

    def forward(self, x):
        return self.down(self.up(x) * self.scale)
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)

    def made(**model):
        model = {**HEALTHY, "vocab_size": 50, "context": 40, **model}
        return RunConfig().but(model=model, optim={"optimizer": "muon"})

    return made


@pytest.mark.parametrize(
    "parts", [{}, {"ffn": "./mine.py:Scaled"}, {"positions": "learned"}, {"tied": True}]
)
def test_everybody_counts_the_same(config, parts):
    run = config(**parts)
    true = sum(p.numel() for p in Transformer(run.model).parameters())
    assert parameter_count(run.model) == of_arm(run) == count_weights(run.model).total == true
    assert of_recipe(run.model, 50) == true
    assert update_flops(run) > 0


def test_only_users_modules_take_memory(config):
    devices = lambda model: {p.device.type for p in model.parameters()}
    plain, own = config().model, config(ffn="./mine.py:Scaled").model
    assert devices(skeleton(plain)) == {"meta"}
    assert devices(skeleton(own)) == devices(skeleton(plain, values=True)) == {"cpu"}
    assert torch.get_default_device().type == "cpu"


def test_a_recipe_is_counted_before_its_text_is_read():
    model = sized("mytnano", "nano").model
    assert model.context == 0 and of_recipe(model, 1024) > 0
