"""One design trained by itself is the run that the commands would train."""

import json

import pytest
from model_toys import words

from mytnano.designs.baselines import starting_design
from mytnano.errors import UserError
from mytnano.training import loop
from mytnano.training.alone import train_alone
from mytnano.training.loop import train
from mytnano.training.text import prepare, resolve

TEXT = b"\n\n".join(words(40, 700))


def design(folder, text=TEXT):
    path = folder / "text.txt"
    path.write_bytes(text)
    return starting_design("bigram").but(
        model={"width": 8},
        data={"corpus": str(path), "window_bytes": 32},
        train={"train_bytes": 2048, "batch_windows": 4, "test_bytes": 1000},
    )


def test_it_is_the_run_of_the_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    config = design(tmp_path)
    found = train_alone(config, tmp_path / "runs" / "one")
    cache = tmp_path / "cache"
    resolved = resolve(config, cache)
    other = train(resolved, prepare(resolved.data, cache), tmp_path / "other")
    for name in ("test_bpb", "params", "config_hash", "status"):
        assert found[name] == other[name], name
    assert (tmp_path / "runs" / "one" / "model.safetensors").exists()
    assert not list((tmp_path / "runs" / "one").glob("checkpoint*"))


OWN = """
import torch
from torch import nn


class Gain(nn.RMSNorm):
    pass


class Counts(nn.RMSNorm):
    def __init__(self, width):
        super().__init__(width)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        return super().forward(x)
"""


def test_modules_of_ones_own_are_a_part_of_the_runs_hash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = design(tmp_path).but(model={"norm": "./mine.py:Gain", "embedding_norm": True})
    hashes = []
    for code in (OWN, OWN + "# another version of it\n"):
        (tmp_path / "mine.py").write_text(code)
        folder = tmp_path / "runs" / str(len(hashes))
        hashes.append(train_alone(config, folder)["config_hash"])
        written = json.loads((folder / "config.json").read_text())
        assert len(written["model"]["own_code"]) == 64
    assert hashes[0] != hashes[1]


def test_a_module_that_checkpoints_would_not_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    config = design(tmp_path).but(model={"norm": "./mine.py:Counts", "embedding_norm": True})
    with pytest.raises(UserError, match="passes changes while the module trains"):
        train_alone(config, tmp_path / "runs" / "one")


def test_a_corpus_that_is_too_small_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="at least"):
        train_alone(design(tmp_path, b"short"), tmp_path / "runs" / "one")
