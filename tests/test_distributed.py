"""Ranks that train one model: the same weights, batches and losses as one process."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import scale_toys
import torch
from scale_toys import losses, run_ranks, toy_config, toy_text

from mytnano.designs.scale import SCALE
from mytnano.distributed import checkpoint
from mytnano.distributed import engine as sharded
from mytnano.distributed.engine import ShardedEngine, whole
from mytnano.distributed.run import SharedRun
from mytnano.distributed.world import World, joined
from mytnano.errors import UserError
from mytnano.files import atomic_write_json, sha256_file
from mytnano.run_files import SHARED
from mytnano.training.engine import uneven
from mytnano.training.loop import train
from mytnano.training.text import windows_of

TOLERANCE = 1e-5
"""Largest difference of a loss in nats per token: the order of fp32 sums, and no more."""


def world(size: int = 2, rank: int = 0) -> World:
    return World(rank, size, size, torch.device("cpu"), None, None, None)


def alone(folder, **act) -> list[float]:
    """Losses of the plain loop in this process."""
    text = toy_text()
    train(toy_config(text, **act), text, folder)
    return losses(folder)


def close(found, expected, tolerance: float = TOLERANCE) -> bool:
    return len(found) == len(expected) and np.allclose(found, expected, rtol=0, atol=tolerance)


def test_two_ranks_train_as_one_and_go_on_from_a_checkpoint(tmp_path):
    expected = alone(tmp_path / "alone", steps=10)
    stopped = {"folder": "a", "steps": 10, "save_every": 3, "stop_at": 7}
    said = run_ranks(
        tmp_path,
        2,
        stopped,
        {"folder": "a", "steps": 11},
        {"folder": "b", "of": "a", "steps": 10},
    )
    assert "a: stopped here" in said
    assert "is a checkpoint of another configuration" in said
    kept = sorted(path.name for path in (tmp_path / "a" / SHARED).iterdir())
    assert kept == ["step-00000003", "step-00000006"]
    assert close(losses(tmp_path / "b"), expected)
    assert not (tmp_path / "b" / SHARED).exists()
    one, two = (json.loads((tmp_path / f / "result.json").read_text()) for f in ("alone", "b"))
    assert two["ranks"] == 2
    for name in ("test_bpb", "validation_bpb"):
        assert two[name] == pytest.approx(one[name], abs=TOLERANCE)
    for before, after in zip(one["mechanism"], two["mechanism"], strict=True):
        assert after["embedding_gradient_norm"] == pytest.approx(
            before["embedding_gradient_norm"], rel=1e-4
        )
        for block, other in zip(before["blocks"], after["blocks"], strict=True):
            assert other == pytest.approx(block, rel=1e-3)


def test_ranks_that_object_leave_together(tmp_path):
    nan = {"folder": "nan", "optim": {"lr": 1e30, "grad_clip": 0.0}, "log_points": 2}
    said = run_ranks(
        tmp_path,
        2,
        {"refuse": 0},
        {"refuse": 1},
        {"folder": "full", "full": 1, "save_every": 2},
        {"folder": "closed", "closed": True},
        {**nan, "save_every": 3, "stop_at": 3},  # the loss is no number, and nobody has looked
        nan,
        seconds=120,
    ).splitlines()
    for rank in (0, 1):
        for way in ("agree", "each", "chief"):
            assert f"{way} of {rank}: objection of 0" in said
        assert f"agree of {rank}: objection of 1" in said
        assert f"each of {rank}: objection of 1" in said
        assert f"chief of {rank}: nothing" in said
    for sentence in ("full: no space left", "closed: its recorder cannot be opened"):
        assert said.count(sentence) == 2
    assert said.count("nan: after 3") == 2
    result = json.loads((tmp_path / "nan" / "result.json").read_text())
    assert result["status"] == "diverged" and result["validation_bpb"] is None
    assert losses(tmp_path / "nan")[-1] is None


def test_blocks_are_compiled_for_training_alone(monkeypatch):
    monkeypatch.setattr(sharded, "compiled", lambda forward, device: lambda x: -x)
    forward = sharded.compiled_to_train(lambda x: x, "cpu")
    one = torch.ones(1)
    assert forward(one) == -1
    with torch.no_grad():
        assert forward(one) == 1


@pytest.mark.ranks
def test_one_two_and_four_ranks_agree_over_fifty_steps_and_reshard(tmp_path):
    # A rate at which rounding stays rounding: where loss falls fastest it grows with every step.
    act = {"tiny": True, "steps": 50, "optim": {"lr": 1e-3, "warmup": 0.2}}
    expected = alone(tmp_path / "alone", **act)
    stopped = {"folder": "stopped", "save_every": 20, "stop_at": 45, **act}
    run_ranks(tmp_path, 2, {"folder": "two", **act}, stopped)
    for ranks in (1, 4):
        acts = [{"folder": f"{ranks}", **act}, {"folder": f"{ranks}-on", "of": "stopped", **act}]
        run_ranks(tmp_path, ranks, *acts)
    for folder in ("two", "1", "4", "1-on", "4-on"):
        assert close(losses(tmp_path / folder), expected), folder


@pytest.mark.extras
def test_a_rank_killed_in_a_step_is_restarted_and_the_run_goes_on(tmp_path):
    expected = alone(tmp_path / "alone", steps=10)
    act = {"folder": "killed", "steps": 10, "save_every": 3, "kill_at": 5}
    run_ranks(tmp_path, 2, act, restarts=2)
    assert (tmp_path / "killed" / "killed").exists()
    assert close(losses(tmp_path / "killed"), expected)


PARTS = {
    "muon": {"optim": {"optimizer": "muon", "lr": 3e-3}},
    "parts": {
        "model": {
            "tied": False, "softcap": 10.0, "x0_skip": True, "value_embeddings": True,
            "qk_norm": True, "norm_gain": False, "embedding_norm": True, "init": "modern",
        }
    },
    "completep": {"model": {"scaling": "completep", "base_width": 16, "base_layers": 1}},
    "averaged": {
        "model": {"positions": "learned", "norm": "layernorm", "tied": False},
        "optim": {"ema": 0.9},
        "train": {"recompute": True},
    },
    "apart": {"data": {"cross_documents": False}},
    "compile": {"train": {"compile": True}},
    "bf16": {"train": {"precision": "bf16"}},
    "all at once": {"train": {"precision": "bf16", "compile": True, "recompute": True}},
}  # fmt: skip
LOOSE = {"muon": 2e-3, "compile": 1e-4, "bf16": 1e-2, "all at once": 1e-2}
"""Muon orthogonalises what differs by rounding; bf16 rounds the tables' gradients once more."""


@pytest.mark.ranks
def test_designs_optimizers_and_precisions_train_sharded_as_whole(tmp_path):
    acts = [{"folder": f"{name}-2", "steps": 4, **part} for name, part in PARTS.items()]
    run_ranks(tmp_path, 2, *acts)
    for name, part in PARTS.items():
        expected = alone(tmp_path / name, steps=4, **part)
        assert close(losses(tmp_path / f"{name}-2"), expected, LOOSE.get(name, TOLERANCE)), name
    one, two = (
        json.loads((tmp_path / f / "result.json").read_text()) for f in ("apart", "apart-2")
    )
    for before, after in zip(one["mechanism"], two["mechanism"], strict=True):
        for block, other in zip(before["blocks"], after["blocks"], strict=True):
            assert other == pytest.approx(block, rel=1e-3)


@pytest.mark.ranks
def test_what_an_optimizer_keeps_is_read_by_more_ranks(tmp_path):
    # "parts" has scalars of two blocks, which four ranks share.
    names = ("muon", "averaged", "parts")
    stopped = {"steps": 6, "save_every": 3, "stop_at": 5}
    run_ranks(tmp_path, 2, *({"folder": name, **stopped, **PARTS[name]} for name in names))
    run_ranks(tmp_path, 4, *({"folder": name, "steps": 6, **PARTS[name]} for name in names))
    for name in names:
        expected = alone(tmp_path / f"{name}-1", steps=6, **PARTS[name])
        assert close(losses(tmp_path / name), expected, LOOSE.get(name, TOLERANCE)), name


def test_what_ranks_cannot_train_is_refused_in_a_sentence():
    windows = SCALE["mytllm-tiny"].train.batch_windows
    assert uneven(windows, 2) is None
    assert "give --nproc-per-node 2, or a train.batch_windows that 3" in uneven(windows, 3)


def fake_checkpoint(root, step: int, config_hash: str = "abc", content: bytes = b"weights"):
    path = root / f"step-{step:08d}"
    path.mkdir(parents=True)
    (path / "shard.safetensors").write_bytes(content)
    sums = {"shard.safetensors": sha256_file(path / "shard.safetensors")}
    note = {"files": sums, "hash": config_hash, "step": step, "values": {}, "history": {}}
    atomic_write_json(path / checkpoint.MANIFEST, note)
    return path


def test_the_last_whole_checkpoint_is_found_and_damaged_ones_are_named(tmp_path):
    assert checkpoint.find(tmp_path, "abc") == (None, [])
    first, last = fake_checkpoint(tmp_path, 3), fake_checkpoint(tmp_path, 6)
    found, notes = checkpoint.find(tmp_path, "abc")
    assert found.step == 6 and not notes
    (last / "shard.safetensors").write_bytes(b"weight")
    found, (note,) = checkpoint.find(tmp_path, "abc")
    assert found.step == 3
    assert note.startswith("step-00000006 is damaged (shard.safetensors does not match its check")
    aside = tmp_path / "aside-1-step-00000006"
    assert note.endswith(f"is kept as {aside.name}")
    assert (aside / "shard.safetensors").read_bytes() == b"weight"
    with pytest.raises(UserError, match="another configuration"):
        checkpoint.find(tmp_path, "def")
    (first / checkpoint.MANIFEST).write_text("{")
    found, notes = checkpoint.find(tmp_path, "abc")
    assert found is None and "manifest.json is unreadable" in notes[0]
    assert notes[1] == "no whole checkpoint is left, so the run starts from its beginning"
    assert len(list(tmp_path.iterdir())) == 2


def seal(root, step: int):
    temporary = root / ".tmp-step"
    temporary.mkdir()
    (temporary / "shard.safetensors").write_bytes(b"x")
    checkpoint.seal(temporary, root / f"step-{step:08d}", {"step": step})


def test_sealing_keeps_the_last_two(tmp_path):
    for step in (1, 2, 3):
        seal(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_what_is_sealed_after_a_damaged_one_is_kept(tmp_path):
    for step in (3, 6):
        seal(tmp_path, step)
    seal(tmp_path, 4)  # as after step 3, as 6 was damaged
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["aside-1-step-00000006", "step-00000003", "step-00000004"]
    seal(tmp_path, 4)
    assert "step-00000004" in [path.name for path in tmp_path.iterdir()]


def test_numbers_that_are_none_come_back_from_a_manifest(tmp_path):
    path = fake_checkpoint(tmp_path, 3)
    manifest = json.loads((path / checkpoint.MANIFEST).read_text())
    manifest |= {"history": json.dumps({"pending": [float("nan"), 1.5]}), "values": "{}"}
    atomic_write_json(path / checkpoint.MANIFEST, manifest)
    found, _ = checkpoint.find(tmp_path, "abc")
    assert np.isnan(found.history["pending"][0]) and found.history["pending"][1] == 1.5


def test_a_full_disk_is_said_in_a_sentence(tmp_path):
    error = OSError(28, "No space left on device")
    assert checkpoint.said(error, tmp_path).startswith("no space left on the disk for")
    wrapped = RuntimeError("CheckpointException ranks:dict_keys([0])\nNo space left on device")
    assert checkpoint.said(wrapped, tmp_path).startswith("no space left on the disk for")


def test_the_toys_config_is_of_the_tiny_recipe():
    assert toy_config(scale_toys.toy_text(), tiny=True).model.kv_heads == 2


def test_a_rank_reads_no_windows_but_its_own():
    text = toy_text()
    config = toy_config(text)
    run = SharedRun.__new__(SharedRun)
    run.windows, run.step, read = windows_of(config, text), 3, []
    whole, spans = run.windows.batch(3), text.train.spans
    stream = SimpleNamespace(**{name: getattr(text.train, name) for name in ("ids", "token_at")})
    stream.spans = lambda first, length: read.append(len(first)) or spans(first, length)
    run.windows.stream = stream
    shares = []
    for rank in range(4):
        run.world = world(4, rank)
        shares.append(run._batch())
    assert read == [2] * 4
    for both, expected in zip(zip(*shares, strict=True), whole, strict=True):
        assert (torch.cat(both).numpy() == expected).all()


OWN = """
import torch
from torch import nn


class Counts(torch.optim.Optimizer):
    def __init__(self, groups, lr):
        super().__init__(groups, dict(lr=lr, momentum=0.9))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
            group["momentum"] *= 0.5
            for p in group["params"]:
                self.state[p]["seen"] = self.state[p].get("seen", 0) + 1
                p.sub_(p.grad, alpha=group["lr"] * group["momentum"])


class Scaled(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.up = nn.Linear(config.width, config.width, bias=False)
        self.scale = float(torch.linspace(0, 1, 3).mean())  # not a number of a meta tensor

    def forward(self, x):
        return self.up(x) * self.scale
"""


def test_a_shared_checkpoint_keeps_what_a_plain_one_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    text = toy_text()
    own = {"optimizer": "./mine.py:Counts", "ema": 0.9}
    config = toy_config(text, optim=own, model={"ffn": "./mine.py:Scaled"})
    windows = windows_of(config, text)
    with joined("cpu") as here:
        engine = ShardedEngine(config, here)
        for step in range(4):
            engine.gradients(*map(torch.from_numpy, windows.batch(step)))
            engine.discard() if step == 1 else engine.update(1e-2)
        checkpoints = checkpoint.Checkpoints(tmp_path, config.hash, here)
        checkpoints.save(engine, 4, {})
        checkpoints.wait()
        fresh = ShardedEngine(config, here)
        found, _ = checkpoints.find()
        assert found.step == 4
        checkpoints.load(fresh, found)
        for group, other in zip(
            engine.optimizer.param_groups, fresh.optimizer.param_groups, strict=True
        ):
            plain = {key: value for key, value in group.items() if key != "params"}
            assert plain == {key: value for key, value in other.items() if key != "params"}
            assert plain["steps"] == 3 and plain["momentum"] == 0.9 / 8
        assert fresh.updates == engine.updates == 3
        for each in (engine, fresh):
            each.gradients(*map(torch.from_numpy, windows.batch(4)))
            each.update(1e-2)
        for name, master in engine.masters.items():
            for one, other in ((master, fresh.masters[name]),
                               (engine.average[name], fresh.average[name])):  # fmt: skip
                assert torch.equal(whole(one.detach()), whole(other.detach())), name
        del engine, fresh, checkpoints, each, master, one, other, group
