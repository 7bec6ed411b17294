"""Runs of a fleet: the folders that runs alone write, a fleet that is killed, one that shrinks."""

import json
import math

import pytest
from model_toys import HEALTHY, alphabet_tokenizer, text_of, toy_run, words
from safetensors.torch import load_file

from mytnano.run_files import CHECKPOINT
from mytnano.runs.store import RunFolder
from mytnano.training import loop, outcome
from mytnano.training.checkpoint import save_checkpoint
from mytnano.training.fleet_train import Entry, train_fleet
from mytnano.training.loop import train

STEPS = 20
CLOCK = {"tokens_per_second", "seconds", "peak_memory_bytes"}


@pytest.fixture(scope="module")
def text():
    splits = [words(12, 900, seed) if seed == 0 else words(3, 600, seed) for seed in range(3)]
    return text_of(splits, alphabet_tokenizer(splits))


def configs_of(text):
    base = toy_run(text, STEPS, model=HEALTHY).but(optim={"lr": 5e-3}, train={"fleet": True})
    return [
        base,
        base.but(train={"seed": 1}, optim={"lr": 2e-3, "schedule": "cosine", "warmup": 0.2}),
        base.but(train={"train_bytes": base.train.train_bytes // 2, "seed": 2}),
        base.but(train={"seed": 3}, optim={"lr": 1e12, "grad_clip": 0.0}),
    ]


def entries_of(configs, root):
    return [Entry(c, root / f"{k}", labels={"rung": f"r{k}"}) for k, c in enumerate(configs)]


def assert_close(one, other, rel, place=""):
    """Nested values of equal shape and nearly equal numbers, but for times."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one.keys() - CLOCK:
            assert_close(one[key], other[key], rel, f"{place}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), place
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_close(*pair, rel, f"{place}[{index}]")
    elif isinstance(one, float) and other is not None:
        assert one == pytest.approx(other, rel=rel, abs=1e-4), place
    else:
        assert one == other, place


@pytest.fixture(scope="module", autouse=True)
def short_samples():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(outcome, "SAMPLE_BYTES", 8)  # they take longer than these runs
        yield


@pytest.fixture(scope="module")
def made(text, tmp_path_factory):
    """A fleet's folder with its results, and the runs alone."""
    root = tmp_path_factory.mktemp("fleet")
    heard = []
    entries = entries_of(configs_of(text), root / "fleet")
    results = train_fleet(entries, text, lambda entry, result: heard.append(entry.folder.name))
    for entry in entries:
        train(entry.config, text, root / "alone" / entry.folder.name, labels=entry.labels)
    return root, entries, results, heard


def test_every_folder_is_that_of_a_run_alone(made):
    root, entries, results, _ = made
    for entry, result in zip(entries, results, strict=True):
        mine, alone = (RunFolder(root / kind / entry.folder.name) for kind in ("fleet", "alone"))
        assert {p.name for p in mine.path.iterdir()} == {p.name for p in alone.path.iterdir()}
        assert mine.result() == json.loads(json.dumps(result).replace("NaN", "null"))
        assert mine.result()["fleet"] == 4 and "fleet" not in alone.result()
        assert mine.config() == alone.config() == entry.config.model_dump()
        ours, theirs = mine.result(), alone.result()
        del ours["fleet"]
        if result["status"] == "diverged":
            # Where exactly an RMSNorm overflows depends on the operation that computes it.
            assert theirs["status"] == "diverged" and theirs["test_bpb"] is None
            continue
        for values in (ours, theirs):
            del values["sample"]  # a character may turn on the last bit
        assert_close(ours, theirs, rel=2e-3)
        assert ours["test_bpb"] == pytest.approx(theirs["test_bpb"], rel=1e-5)
        assert_close(mine.metrics(), alone.metrics(), rel=2e-3)
        mine_w, alone_w = (load_file(f.path / "model.safetensors") for f in (mine, alone))
        for name, weight in alone_w.items():
            assert (mine_w[name] - weight).norm() < 1e-3 * weight.norm() + 1e-6, name


def test_one_diverges_and_one_is_shorter(made):
    _, _, results, heard = made
    statuses = [result["status"] == "diverged" for result in results]
    assert statuses == [False, False, False, True]
    assert results[3]["test_bpb"] is None and results[3]["train_bytes"] < results[0]["train_bytes"]
    assert results[2]["train_bytes"] == pytest.approx(results[0]["train_bytes"] / 2, rel=0.1)
    assert heard[0] == "3" and heard[1] == "2", "told as soon as it is there"
    assert sorted(heard) == ["0", "1", "2", "3"]
    assert all(math.isfinite(r["tokens_per_second"]) for r in results)


class Killed(Exception):
    pass


def test_a_killed_fleet_continues(text, made, tmp_path, monkeypatch):
    """The finished member is kept by the caller; the others go on, two from different steps."""
    _, _, expected, _ = made
    configs = configs_of(text)[:3]
    saved = {}

    def save(folder, engine, step, *rest):
        if step == saved.get(folder.name):
            return  # as if killed before this one's second save
        save_checkpoint(folder, engine, step, *rest)
        saved[folder.name] = 12 if folder.name == "1" else None
        if step == 12 and folder.name == "0":
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
        patched.setattr(loop, "save_checkpoint", save)
        with pytest.raises(Killed):
            train_fleet(entries_of(configs, tmp_path), text)
    assert (tmp_path / "2" / "result.json").exists(), "it had only half the steps"
    rest = [entry for entry in entries_of(configs, tmp_path) if entry.folder.name != "2"]
    results = train_fleet(rest, text)
    for result, other in zip(results, expected, strict=False):
        assert result["test_bpb"] == pytest.approx(other["test_bpb"], rel=1e-5)
        assert result["fleet"] == 2
        points = RunFolder(rest[0].folder).metrics()
        assert [point["step"] for point in points] == list(range(1, STEPS + 1))
    for config, name in zip(configs, "012", strict=True):
        RunFolder(tmp_path / name, config.hash).finish()  # which alone drops checkpoints
    assert not list(tmp_path.rglob(CHECKPOINT))


def test_a_run_begun_alone_goes_on_in_a_fleet(text, made, tmp_path, monkeypatch):
    """Checkpoints are the same files."""
    _, _, expected, _ = made
    config = configs_of(text)[0]

    def save(folder, engine, step, *rest):
        save_checkpoint(folder, engine, step, *rest)
        if step == 9:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
        patched.setattr(loop, "save_checkpoint", save)
        with pytest.raises(Killed):
            train(config, text, tmp_path / "0")
    (result,) = train_fleet([Entry(config, tmp_path / "0")], text)
    assert result["test_bpb"] == pytest.approx(expected[0]["test_bpb"], rel=1e-5)


def test_the_folder_s_weights_are_no_views_of_the_fleet(made):
    root, _, results, _ = made
    size = (root / "fleet" / "0" / "model.safetensors").stat().st_size
    assert size < 4 * results[0]["params"] + 4096
