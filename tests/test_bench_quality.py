"""The race to a score: who trains on what, and that the tail is scored whole."""

import json
import math
from pathlib import Path

import pytest
from bench_toys import NANOGPT
from typer.main import get_command

from mytnano.bench import quality
from mytnano.cli import app
from mytnano.designs.recipes import RECIPES, SIZES
from mytnano.errors import UserError

TRAIN = """
import pathlib, pickle, sys
import torch
from model import GPT, GPTConfig
assert "--max_iters=2000" in sys.argv
meta = pickle.loads(pathlib.Path("data/shakespeare_char/meta.pkl").read_bytes())
words = dict(block_size=64, vocab_size=meta["vocab_size"], n_layer=1, n_head=1, n_embd=8)
words |= dict(dropout=0.0, bias=False)
model = GPT(GPTConfig(**words))
torch.nn.init.zeros_(model.table.weight)
pathlib.Path("out-shakespeare-char").mkdir(exist_ok=True)
saved = {"model": model.state_dict(), "model_args": words}
torch.save(saved, "out-shakespeare-char/ckpt.pt")
"""


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "nanoGPT"
    (folder / "config").mkdir(parents=True)
    (folder / "model.py").write_text(NANOGPT)
    (folder / "train.py").write_text(TRAIN)
    (folder / "configurator.py").write_text("")
    (folder / "config" / "train_shakespeare_char.py").write_text("")
    return folder


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("abcdefgh" * 5000)
    return file


def test_a_race(checkout, text, tmp_path, monkeypatch, capsys):
    given = []

    def ours(folder, out, minutes):
        given.append((folder / "head.txt").read_bytes() + (folder / "tail.txt").read_bytes())
        return {"seconds": 60 * minutes, "bpb": 2.0 + minutes, "precision": "fp32"}

    monkeypatch.setattr(quality, "race_ours", ours)
    result = quality.run_quality_bench(text, checkout, 2, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == result
    assert set(given) == {text.read_bytes()} and len(given) == 6
    found = result["medians"]
    assert found["nanoGPT, README"]["bpb"] == pytest.approx(math.log2(8)), "eight equal letters"
    assert found["mytNano, minute"] == {"seconds": 60, "bpb": 3.0}
    quarter = found["mytNano, quarter"]["seconds"]
    assert quarter == pytest.approx(found["nanoGPT, README"]["seconds"] / 4)
    assert result["text"] == {"name": "text.txt", "bytes": 40_000, "test_bytes": 4000}
    assert "nanoGPT, README" in capsys.readouterr().out


def test_mistakes(checkout, text, tmp_path):
    out = tmp_path / "out.json"
    with pytest.raises(UserError, match="--quality needs --nanogpt"):
        quality.run_quality_bench(text, None, 1, out)
    with pytest.raises(UserError, match=r"cannot read .*missing.*give a text file"):
        quality.run_quality_bench(tmp_path / "missing", checkout, 1, out)
    (checkout / "train.py").write_text("raise SystemExit('no such dataset')")
    with pytest.raises(UserError, match=r"'train.py .* failed: no such dataset"):
        quality.run_quality_bench(text, checkout, 1, out)
    assert not out.exists()


def test_our_command(tmp_path, monkeypatch):
    """Its words are those of `mytnano train`, and what that leaves is what is read."""

    def timed(words, folder, more):
        assert words[1:4] == ["-m", "mytnano", "train"] and more["TORCHINDUCTOR_CACHE_DIR"]
        known = {word for each in get_command(app).commands["train"].params for word in each.opts}
        assert {word for word in words[4:] if word.startswith("--")} <= known
        out = Path(words[words.index("--out") + 1])
        out.mkdir()
        (out / "result.json").write_text('{"test_bpb": 2.5}')
        (out / "config.json").write_text('{"train": {"precision": "bf16"}}')
        return 7.0

    monkeypatch.setattr(quality, "_timed", timed)
    found = quality.race_ours(tmp_path, tmp_path / "run", 1.0)
    assert found == {"seconds": 7.0, "bpb": 2.5, "precision": "bf16"}
    assert quality.OURS[0] in RECIPES and quality.OURS[2] in SIZES
