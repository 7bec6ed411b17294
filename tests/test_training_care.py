"""What looks after a long run: skipped spikes, stopping, samples, recorders."""

import json
import math

import pytest
from loop_toys import (
    STEPS,
    assert_same_steps,
    counting,
    run_of,
    stepped,
)

from mytnano.errors import UserError
from mytnano.run_files import CHECKPOINT, SAMPLES
from mytnano.training import loop
from mytnano.training.care import Care
from mytnano.training.checkpoint import read_checkpoint
from mytnano.training.engine import Engine
from mytnano.training.loop import train

pytestmark = pytest.mark.usefixtures("mine")


def broken_batches(monkeypatch, steps, value=math.nan):
    """Losses of these 0-based steps come out as ``value``, with gradients to match."""
    whole = Engine.gradients
    calls = iter(range(10_000))

    def gradients(engine, x, y):
        loss = whole(engine, x, y)
        if next(calls) in steps:
            for master in engine.masters.values():
                master.grad.fill_(value)
            return loss * 0 + value
        return loss

    monkeypatch.setattr(Engine, "gradients", gradients)


@pytest.mark.parametrize("value", [math.nan, math.inf, 50.0])
def test_a_spike_is_skipped_counted_and_said(text, tmp_path, monkeypatch, value):
    config = run_of(text, optim={"spike": 6.0})
    broken_batches(monkeypatch, {18, 20}, value)
    said = []
    run = stepped(config, text, tmp_path, Care(say=said.append))
    assert [sentence.partition(":")[0] for sentence in said] == [
        "step 19 was skipped",
        "step 21 was skipped",
    ]
    points = run.history["points"]
    assert [p["step"] for p in points] == list(range(1, STEPS + 1))
    assert [p["skipped"] for p in points] == [0] * 18 + [1] * 2 + [2] * 4
    assert [p["step"] for p in points if p["train_loss"] is None] == [19, 21]
    assert all(p["train_loss"] < 10 for p in points if p["train_loss"] is not None)
    assert all(weight.isfinite().all() for weight in run.engine.masters.values())


def test_a_skipped_step_is_validated_when_that_is_due(text, tmp_path, monkeypatch):
    config = run_of(text, optim={"spike": 6.0}, train={"evaluations": 1})
    broken_batches(monkeypatch, {STEPS - 1}, math.nan)
    last = stepped(config, text, tmp_path).history["points"][-1]
    assert (last["step"], last["train_loss"]) == (STEPS, None) and last["validation_bpb"] > 0


def test_the_time_between_checkpoints_begins_when_one_is_written(text, tmp_path, monkeypatch):
    now, saves = [0.0], []

    def slow(run, history):
        saves.append(run.step)
        now[0] += 100

    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(loop.Run, "_save", slow)
    run = loop.Run(run_of(text), text, tmp_path, lambda progress: None, Care(checkpoint_seconds=10))
    for seconds in (11, 1, 1):
        now[0] += seconds
        run.look_after()
    assert len(saves) == 1


def test_without_a_spike_the_guard_changes_nothing(text, tmp_path):
    config = run_of(text, steps=40)
    plain = stepped(config, text, tmp_path / "plain")
    guarded = stepped(config.but(optim={"spike": 8.0}), text, tmp_path / "guarded")
    assert guarded.finish({})["skipped_steps"] == 0
    for point in guarded.history["points"]:
        assert point.pop("skipped") == 0
    assert_same_steps(plain, guarded)


def test_steps_that_all_break_stop_the_run_with_its_state_saved(text, tmp_path, monkeypatch):
    config = run_of(text, optim={"spike": 6.0})
    with monkeypatch.context() as patched:
        broken_batches(patched, range(10, 100))
        with pytest.raises(UserError, match=r"stopped after step 15: 5 steps in a row.*lr=0\.001"):
            train(config, text, tmp_path)
    tensors, header = read_checkpoint(tmp_path / CHECKPOINT, config.hash)
    assert header["step"] == "15" and all(tensor.isfinite().all() for tensor in tensors.values())
    run = stepped(config, text, tmp_path)
    assert run.guard.state["skipped"] == 5 and run.history["points"][-1]["step"] == STEPS


def test_asked_to_stop_it_saves_and_goes_on_where_it_was(text, tmp_path):
    config = run_of(text)
    asked = iter([False] * 6 + [True])
    heard = Heard()
    with pytest.raises(KeyboardInterrupt):
        care = Care(stopping=lambda: next(asked), recorders=[heard])
        train(config, text, tmp_path / "parts", care=care)
    assert [point["step"] for point in heard.points] == [1, 2, 3, 4, 5, 6, 7]
    assert heard.closed == [None]
    assert read_checkpoint(tmp_path / "parts" / CHECKPOINT, config.hash)[1]["step"] == "7"
    heard = Heard()
    parts = stepped(config, text, tmp_path / "parts", Care(recorders=[heard]))
    assert [point["step"] for point in heard.points] == list(range(8, STEPS + 1))
    assert_same_steps(stepped(config, text, tmp_path / "whole"), parts)


def test_samples_are_written_on_the_way_and_change_nothing(text, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAMPLE_TOKENS", 4)
    config = run_of(text, "dropout")
    heard = Heard()
    care = Care(prompts=("The people ", "law"), recorders=[heard])
    sampled = stepped(config, text, tmp_path, care)
    assert_same_steps(stepped(config, text, tmp_path / "plain"), sampled)
    result = sampled.finish({})
    lines = (tmp_path / SAMPLES).read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    assert [s["step"] for s in samples] == [6, 6, 12, 12, 18, 18, 24, 24]
    assert samples == heard.samples and len({s["text"] for s in samples}) > 2
    assert "samples" not in result


def test_recorders_hear_of_the_end(text, tmp_path):
    heard = Heard()
    assert [train(run_of(text, steps=2), text, tmp_path, care=Care(recorders=[heard]))] == (
        heard.closed
    )


def test_a_killed_measurement_does_not_cost_the_training(text, tmp_path, monkeypatch):
    config = run_of(text)
    stepped(config, text, tmp_path, Care(save_at_end=True))  # and is killed before it is measured
    steps = []
    monkeypatch.setattr(Engine, "update", counting(Engine.update, steps))
    assert train(config, text, tmp_path)["test_bpb"] > 0 and not steps


class Heard:
    def __init__(self):
        self.points, self.samples, self.closed = [], [], []

    def point(self, point):
        self.points.append(point)

    def sample(self, **sample):
        self.samples.append(sample)

    def close(self, result):
        self.closed.append(result)
