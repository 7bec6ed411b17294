"""The sweeps: nothing of the test text is read, and what is written is what a ladder then uses."""

import io
import json
import math
from dataclasses import replace

import pytest
from check_rates import around_the_rule
from ladder_toys import write_text
from rich.console import Console

from mytnano.config import BF16_SEMANTICS, DataConfig, semantics
from mytnano.designs.budgets import BUDGETS
from mytnano.designs.rates import FILE, learning_rate_for
from mytnano.designs.rungs import CORE, KNOWN
from mytnano.errors import UserError
from mytnano.ladder import sweep as module
from mytnano.ladder import trials
from mytnano.ladder.cells import Where
from mytnano.ladder.plan import announce_sweeps
from mytnano.ladder.sweep import SEEDS, VOCABULARY_FILE, Sweep, sweep_into, swept
from mytnano.runs.jobs import Failed, Finished, Summary
from mytnano.runs.store import finished_runs


@pytest.fixture
def sweep(tmp_path):
    text = write_text(tmp_path / "farm.txt", 30_000)
    where = Where(DataConfig(corpus=str(text)), tmp_path / "out", "fp32", "cpu")
    return Sweep(where, BUDGETS["smoke"], 0, 30_000.0, Console(file=io.StringIO()))


def losses(monkeypatch, loss):
    """Replace training: each job ends with ``loss(job)`` as its validation BPB."""

    def run(groups, work, workers, threads, on_event):
        jobs = [job for group in groups for job in group]
        return Summary([Finished(job, {"validation_bpb": loss(job)}, 0.0) for job in jobs])

    monkeypatch.setattr(trials, "run_jobs", run)


def test_a_real_sweep_scores_no_test_text_and_no_ladder_seed(sweep):
    tuned = sweep.rates(["bigram"])["bigram"]
    assert len(tuned.points) >= 3 and all(0 < loss < 8 for _, loss in tuned.points)
    runs, _ = finished_runs(sweep.where.out)
    assert len(runs) == len(tuned.points)
    for run in runs:
        result = run.result()
        assert result["test_bpb"] is None and result["test_loss"] is None
        assert (result["seed"], result["group"]) == (SEEDS[0], "sweep")
    sealed = {run.path: (run.path / "manifest.json").stat().st_mtime_ns for run in runs}
    assert sweep.rates(["bigram"])["bigram"] == tuned
    assert {path: (path / "manifest.json").stat().st_mtime_ns for path in sealed} == sealed


def test_both_choices_are_written_and_used(sweep, monkeypatch):
    def loss(job):
        config = job.config[0]
        best_size = 0.0 if config.data.tokenizer in ("bpe:512", "char", "cl100k-compact") else 0.1
        return 2.0 + best_size + (config.optim.lr - 0.004) ** 2 * 1e4

    losses(monkeypatch, loss)
    assert swept(sweep.where) == sweep.where, "nothing is swept yet"
    sweep_into(sweep, CORE, {"hardware": "toy"})
    chosen = swept(sweep.where)
    assert chosen.best_bpe == "bpe:512"
    assert set(chosen.rates["rungs"]) == {rung.id for rung in CORE}
    assert all(0.003 < entry["lr"] < 0.005 for entry in chosen.rates["rungs"].values())
    written = json.loads((sweep.where.out / FILE).read_text())
    assert written["train_bytes"] == BUDGETS["smoke"].train_bytes
    assert written["environment"] == {"hardware": "toy"} and written["seeds"] == list(SEEDS)


def test_only_what_the_rungs_use_is_tuned_and_kept_beside_the_rest(sweep, monkeypatch):
    tried = []

    def loss(job):
        tried.append(job.rung)
        return 2.0 + (job.config[0].optim.lr - 0.004) ** 2

    losses(monkeypatch, loss)
    sweep_into(sweep, [KNOWN["block"], KNOWN["logged-two-blocks"], KNOWN["logged-lr"]], {})
    assert set(tried) == {"block"} and not (sweep.where.out / VOCABULARY_FILE).exists()
    found = swept(sweep.where)
    assert found.best_bpe == sweep.where.best_bpe
    assert "block" not in found.rates["shipped"] and "mytnano" in found.rates["shipped"]
    size = BUDGETS["smoke"].train_bytes
    assert learning_rate_for("mytnano", size, found.rates) == learning_rate_for("mytnano", size)
    tuned = found.rates["rungs"]["block"]["lr"]
    tried.clear()
    sweep_into(sweep, [KNOWN["activations-relu"]], {})
    assert {name for name in tried if not name.startswith("bpe:")} == {"mytnano"}
    assert any(name.startswith("bpe:") for name in tried)
    found = swept(sweep.where)
    assert found.rates["rungs"]["block"]["lr"] == tuned and found.best_bpe != "bpe:8192"
    assert {"block", "mytnano"}.isdisjoint(found.rates["shipped"])
    (sweep.where.out / VOCABULARY_FILE).unlink()
    with pytest.raises(UserError, match="damaged or not whole"):
        swept(sweep.where)


def test_what_is_tuned_is_announced(sweep):
    said = []
    announce_sweeps(sweep, [KNOWN["block"], KNOWN["bigram"]], said.append)
    assert "--tune: some 8 runs tune the learning rates of bigram and block, about" in said[0]
    announce_sweeps(sweep, [KNOWN["bpe"]], said.append)
    assert " of the trained vocabulary and bpe, about" in said[1]


def test_a_sweep_of_another_version_is_refused(sweep, monkeypatch):
    losses(monkeypatch, lambda job: 2.0 + (job.config[0].optim.lr - 0.004) ** 2)
    sweep_into(sweep, [KNOWN["bigram"]], {})
    monkeypatch.setattr(module, "semantics", lambda precision: semantics(precision) + 1)
    with pytest.raises(UserError, match=r"made by another version .*: repeat it with --tune"):
        swept(sweep.where)


def test_the_rule_is_checked_at_its_rate_and_an_octave_each_way(sweep, monkeypatch):
    ruled = learning_rate_for("average", BUDGETS["smoke"].train_bytes)
    seen = []

    def loss(job):
        seen.append(job.config[0].optim.lr)
        return 2.0 + 0.1 * math.log2(seen[-1] / (1.2 * ruled)) ** 2

    losses(monkeypatch, loss)
    tuned = around_the_rule(sweep, ["average"])["average"]
    assert seen == pytest.approx([ruled / 2, ruled, 2 * ruled], rel=0.01)
    assert tuned.interior and not tuned.flat
    assert tuned.lr == pytest.approx(1.2 * ruled, rel=0.02)
    losses(monkeypatch, lambda job: 2.0 + job.config[0].optim.lr)
    assert not around_the_rule(sweep, ["average"])["average"].interior


def test_only_vocabularies_that_the_text_supports_are_swept(sweep, monkeypatch):
    losses(monkeypatch, lambda job: 2.0 + (job.config[0].optim.lr - 0.004) ** 2)
    sizes = [int(name.removeprefix("bpe:")) for name in sweep.vocabularies()]
    assert sizes == sorted(set(sizes)) and sizes[0] == 512 and sizes[-1] < 8192


def test_a_diverged_point_is_infinite_and_written_as_null(sweep, monkeypatch):
    diverges = lambda job: None if job.config[0].optim.lr > 0.005 else 2.5 - job.config[0].optim.lr
    losses(monkeypatch, diverges)
    tuned = sweep.rates(["bigram"])
    assert tuned["bigram"].lr == pytest.approx(0.004)
    points = module.as_json(tuned, sweep, {})["rungs"]["bigram"]["points"]
    assert [0.008, None] in points
    json.dumps(points, allow_nan=False)


def test_a_failed_point_ends_the_sweep_with_a_sentence(sweep, monkeypatch):
    def run(groups, *_):
        return Summary(failed=[Failed(groups[0][0], "bigram-lr0.002-s1000 failed (Oops)")])

    monkeypatch.setattr(trials, "run_jobs", run)
    with pytest.raises(UserError, match=r"failed \(Oops\); without it nothing can be chosen"):
        sweep.rates(["bigram"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (FILE, "{"),
        (FILE, '{"semantics": 2, "train_bytes": 0, "rungs": {}}'),
        (FILE, '{"semantics": 2, "train_bytes": 1024, "rungs": {"bigram": {"lr": "fast"}}}'),
        (FILE, "[]"),
        (FILE, None),
        (VOCABULARY_FILE, '{"semantics": 2, "best": "bpe:4096", "rungs": {"bpe:512": {}}}'),
        (VOCABULARY_FILE, '{"semantics": 2, "best": "bpe:1", "rungs": {"bpe:1": {}}}'),
        (VOCABULARY_FILE, "\xff"),
        (VOCABULARY_FILE, None),
        (FILE, '{"train_bytes": 1024, "rungs": {}}'),
    ],
)
def test_a_damaged_sweep_is_refused_with_a_sentence(sweep, monkeypatch, name, content):
    losses(monkeypatch, lambda job: 2.0 + (job.config[0].optim.lr - 0.004) ** 2)
    sweep_into(sweep, [KNOWN["bpe"]], {})
    path = sweep.where.out / name
    path.unlink() if content is None else path.write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=f"damaged or not whole: delete {FILE} and"):
        swept(sweep.where)


def test_a_sweep_in_bf16_is_of_the_version_of_bf16(sweep, monkeypatch):
    losses(monkeypatch, lambda job: 2.0 + (job.config[0].optim.lr - 0.004) ** 2)
    where = replace(sweep.where, precision="bf16")
    sweep_into(replace(sweep, where=where), [KNOWN["bigram"]], {})
    assert json.loads((where.out / FILE).read_bytes())["semantics"] == BF16_SEMANTICS
    with pytest.raises(UserError, match="made by another version"):
        swept(sweep.where)
