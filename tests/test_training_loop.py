"""Whole runs: their files, scores and mechanism, that they repeat, and how they fail."""

import json
import math

import pytest
import torch
from loop_toys import STEPS, assert_same, load_weights, outcome, run_of
from model_toys import HEALTHY
from safetensors.torch import load_file

from mytnano.measure.evaluate import score
from mytnano.model.transformer import Transformer
from mytnano.run_files import SAMPLES
from mytnano.runs.store import RunFolder
from mytnano.training import loop
from mytnano.training.care import Care
from mytnano.training.engine import Engine
from mytnano.training.loop import train

pytestmark = pytest.mark.usefixtures("mine")

ROW = {
    "rung", "seed", "tokenizer", "vocab_size", "params", "params_non_embedding", "train_bytes",
    "train_tokens", "flops", "test_loss", "test_accuracy", "test_perplexity",
    "test_bits_per_token", "test_bpb", "status", "tokens_per_second", "seconds",
    "peak_memory_bytes", "config_hash",
}  # fmt: skip
"""Columns of a ladder's results."""
MORE = {
    "validation_bpb", "bytes_per_token", "context", "comparable", "status_evidence", "mechanism",
    "sample", "prompt",
}  # fmt: skip


def test_what_is_scored_and_saved_is_the_average(text, tmp_path):
    config = run_of(text, steps=10, optim={"ema": 0.9, "lr": 1e-2})
    result = train(config, text, tmp_path)
    model = Transformer(config.model)
    load_weights(model, tmp_path)
    assert result["test_bpb"] == pytest.approx(score(model, text.test).bits_per_byte, rel=1e-6)
    plain = train(config.but(optim={"ema": 0.0}), text, tmp_path / "plain")
    assert plain["test_bpb"] != result["test_bpb"]
    curve = [RunFolder(folder).metrics() for folder in (tmp_path, tmp_path / "plain")]
    assert curve[0][-1]["train_loss"] == curve[1][-1]["train_loss"]  # training is the same
    assert curve[0][-1]["validation_bpb"] != curve[1][-1]["validation_bpb"]


def test_same_config_same_numbers_whatever_ran_before(text, tmp_path):
    config = run_of(text, "dropout")
    train(config, text, tmp_path / "one")
    torch.manual_seed(123)
    train(config, text, tmp_path / "two")
    assert_same(outcome(tmp_path / "one"), outcome(tmp_path / "two"))
    train(config.but(train={"salt": "twin"}), text, tmp_path / "twin")
    one, twin = (outcome(tmp_path / name)[0] for name in ("one", "twin"))
    assert one["test_bpb"] != twin["test_bpb"] and one["train_tokens"] == twin["train_tokens"]


def test_the_files_of_a_run(text, tmp_path):
    config = run_of(text)
    seen = []
    result = train(config, text, tmp_path, seen.append, {"rung": "toy", "group": "core"})
    run = RunFolder(tmp_path, config.hash)
    assert run.finish() == run.result() == json.loads(json.dumps(result))
    assert run.is_finished() and run.config() == config.model_dump()
    points = run.metrics()
    assert [point["step"] for point in points] == list(range(1, STEPS + 1))
    assert [p["bytes"] for p in points] == sorted(p["bytes"] for p in points)
    assert points[-1]["tokens"] == result["train_tokens"] == STEPS * 8 * config.model.context
    assert points[-1]["bytes"] == result["train_bytes"]
    assert sum(point["validation_bpb"] is not None for point in points) == 10
    assert points[-1]["validation_bpb"] is not None
    assert {point["lr"] for point in points} == {config.optim.lr}
    assert all(point["grad_norm"] > 0 for point in points)
    assert set(result) >= ROW | MORE
    assert result["rung"] == "toy" and result["config_hash"] == config.hash
    assert abs(result["train_bytes"] - config.train.train_bytes) < 0.02 * config.train.train_bytes


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_scores_are_those_of_the_weights_on_disk(text, tmp_path, precision):
    config = run_of(text, precision)
    result = train(config, text, tmp_path)
    model = Transformer(config.model)
    load_weights(model, tmp_path)
    exact = score(model, text.test)
    model = model.bfloat16() if precision == "bf16" else model
    scored = score(model, text.test)
    assert scored.bits_per_byte == pytest.approx(exact.bits_per_byte, rel=1e-3), "eval's, in fp32"
    assert result["test_bpb"] == pytest.approx(scored.bits_per_byte, rel=1e-6)
    assert result["test_loss"] == pytest.approx(scored.loss, rel=1e-6)
    assert result["test_perplexity"] == pytest.approx(math.exp(scored.loss), rel=1e-5)
    assert result["test_bits_per_token"] == pytest.approx(scored.loss / math.log(2), rel=1e-6)
    assert result["test_accuracy"] == scored.accuracy
    assert result["validation_bpb"] == pytest.approx(score(model, text.validation).bits_per_byte)
    assert result["comparable"]
    total = sum(p.numel() for p in model.parameters())
    tables = 2 * config.model.vocab_size * config.model.width
    assert result["params"] == total and result["params_non_embedding"] == total - tables


def test_mechanism_is_measured_at_three_moments(text, tmp_path):
    result = train(run_of(text), text, tmp_path)
    assert [m["at"] for m in result["mechanism"]] == ["init", "10%", "end"]
    assert [m["step"] for m in result["mechanism"]] == [0, 2, STEPS - 1]
    for moment in result["mechanism"]:
        assert len(moment["blocks"]) == 2 and moment["embedding_gradient_norm"] > 0
        for block in moment["blocks"]:
            assert 0 < block["update_ratio"] < 1 and block["gradient_norm"] > 0
            assert 0 < block["attention_entropy"] < 1


def test_the_last_probe_is_of_a_step_that_moves_the_weights(text, tmp_path):
    result = train(run_of(text, optim={"schedule": "linear"}), text, tmp_path)
    end = result["mechanism"][-1]
    assert (end["at"], end["step"]) == ("end", STEPS - 2)
    assert all(block["update_ratio"] > 0 for block in end["blocks"])


def test_probing_does_not_change_the_run(text, tmp_path, monkeypatch):
    config = run_of(text, "dropout")
    train(config, text, tmp_path / "probed")
    monkeypatch.setattr(loop.Run, "_probed_step", lambda self, lr: self._step(lr))
    train(config, text, tmp_path / "plain")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("probed", "plain")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_test_text_is_read_by_nothing_when_it_must_not_be(text, tmp_path):
    config = run_of(text, train={"score_test": False})
    untouchable = type(text)(text.corpus, text.tokenizer, text.train, text.validation, None)
    result = train(config, untouchable, tmp_path)
    assert result["test_bpb"] is None and result["validation_bpb"] > 0 and result["sample"] == ""


def test_the_sample_continues_the_prompt(text, tmp_path):
    result = train(run_of(text), text, tmp_path)
    assert result["prompt"] == "The people" and 200 < len(result["sample"]) <= 240


def test_a_diverged_run_ends_early_and_has_no_scores(text, tmp_path):
    config = run_of(text, model={**HEALTHY, "norm": "none"}, optim={"lr": 1e12})
    result = train(config, text, tmp_path)
    assert result["status"] == "diverged"
    scores = [key for key in result if key.startswith(("test_", "validation_"))]
    assert len(scores) == 6 and all(result[key] is None for key in scores)
    assert result["train_tokens"] < STEPS * 8 * config.model.context
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "diverged"
    points = RunFolder(tmp_path).metrics()
    assert points[-1]["train_loss"] is None  # not a number, so not in JSON


def test_a_run_that_breaks_in_its_last_step_has_no_scores_either(text, tmp_path, monkeypatch):
    update = Engine.update

    def breaking(engine, lr):
        norm = update(engine, lr)
        if next(iter(engine.optimizer.state.values()))["step"] == STEPS:
            with torch.no_grad():
                engine.masters["head.weight"].fill_(math.nan)
                engine.refresh()
        return norm

    monkeypatch.setattr(Engine, "update", breaking)
    result = train(run_of(text), text, tmp_path, care=Care(prompts=("The people",)))
    assert result["status"] == "diverged"
    assert result["test_bpb"] is None and result["validation_bpb"] is None
    *earlier, last = map(json.loads, (tmp_path / SAMPLES).read_text().splitlines())
    assert last["text"] == "" and earlier[-1]["text"], "nothing can be drawn, which is no error"
    assert result["train_tokens"] == STEPS * 8 * result["context"]


def test_progress_is_reported(text, tmp_path, monkeypatch):
    seen = []
    ticks = iter(range(100_000))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))
    train(run_of(text), text, tmp_path, seen.append)
    assert [p.step for p in seen] == sorted(p.step for p in seen) and len(seen) > 3
    assert seen[-1].steps == STEPS and seen[-1].loss > 0
    assert seen[-1].validation_bpb and seen[-1].tokens_per_second


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_shortest_runs(text, tmp_path, steps):
    result = train(run_of(text, steps=steps), text, tmp_path)
    assert result["train_tokens"] == steps * 8 * result["context"] and result["test_bpb"] > 0
    assert "end" in [moment["at"] for moment in result["mechanism"]]
    assert steps == 1 or result["mechanism"][0]["at"] == "init"
