"""Ladders and ablations whose runs train in fleets: on a CPU only when asked to."""

import json

import pytest
import torch
from lab_toys import ask, pretend
from ladder_toys import run_ladder, small_attention, write_text

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.ladder import fleets
from mytnano.ladder.fleets import choose_fleet, packs, run_jobs
from mytnano.runs.jobs import Failed, Job, Note, Report
from mytnano.runs.store import finished_runs
from mytnano.training import fleet_size, outcome
from mytnano.training.fleet_size import LARGEST, largest_fleet
from mytnano.training.loop import train
from mytnano.training.text import prepare


@pytest.fixture
def text(tmp_path, monkeypatch):
    small_attention(monkeypatch)
    monkeypatch.setattr(outcome, "SAMPLE_BYTES", 8)
    return write_text(tmp_path / "farm.txt", 30_000)


def results_of(out):
    return {run.path.name.rpartition("-")[0]: run.result() for run in finished_runs(out)[0]}


def test_a_ladder_in_fleets(text, tmp_path):
    out = tmp_path / "fleets"
    printed = run_ladder(text, out, "bigram", seeds=2, fleet="on", precision="fp32")
    assert "runs of one shape train together" in printed
    mine = results_of(out)
    assert len(mine) == 2 and all(result["fleet"] == 2 for result in mine.values())
    run_ladder(text, tmp_path / "alone", "bigram", seeds=1, precision="fp32")
    (alone,) = results_of(tmp_path / "alone").values()
    assert mine["bigram-s0"]["test_bpb"] == pytest.approx(alone["test_bpb"], rel=1e-5)
    assert mine["bigram-s0"]["config_hash"] != alone["config_hash"], "never taken for each other"
    environment = json.loads((out / "results.json").read_text())["environment"]
    assert environment["fleet"] == LARGEST
    # The same command again, with the folder's choice, repeats nothing; another choice is refused.
    before = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("manifest.json")}
    run_ladder(text, out, "bigram", seeds=2)
    assert before == {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("manifest.json")}
    with pytest.raises(UserError, match="holds a ladder with --fleet on, and this one has off"):
        run_ladder(text, out, "bigram", fleet="off")


@pytest.mark.extras
def test_an_ablation_in_fleets(text, tmp_path):
    found, _ = ask(tmp_path, "fused", seeds=4, alpha=0.2, fleet="on")
    assert found.environments[0]["fleet"] == LARGEST
    runs = finished_runs(tmp_path / "fused")[0]
    sizes = {run.path.name.rpartition("-")[0]: run.result()["fleet"] for run in runs}
    assert sizes["baseline-s0"] == 4 and sizes["relu-lr0.002-s1000000"] > 1
    run = next(run for run in runs if run.path.name.startswith("relu-s3"))
    config = RunConfig.model_validate(run.config())
    alone = train(config, prepare(config.data, tmp_path / "fused" / "cache"), tmp_path / "alone")
    assert run.result()["test_bpb"] == pytest.approx(alone["test_bpb"], rel=1e-5)
    with pytest.raises(UserError, match="holds runs made with --fleet on, and this one has off"):
        ask(tmp_path, "fused", seeds=4, alpha=0.2, fleet="off")
    again, _ = ask(tmp_path, "fused", seeds=4, alpha=0.2)
    assert again.sentences == found.sentences, "auto is the folder's"


def test_an_ablation_keeps_to_its_first_choice(tmp_path, monkeypatch):
    jobs = pretend(monkeypatch, lambda arm, lr, seed: 2.0 + 0.001 * seed)
    found, _ = ask(tmp_path, seeds=4, alpha=0.2, fleet="on")
    assert found.environments[0]["fleet"] == LARGEST
    assert all(job.config[0].train.fleet for job in jobs)
    with pytest.raises(UserError, match="holds runs made with --fleet on, and this one has off"):
        ask(tmp_path, seeds=4, alpha=0.2, fleet="off")
    ask(tmp_path, seeds=4, alpha=0.2)
    assert all(job.config[0].train.fleet for job in jobs), "auto is the folder's"
    found, _ = ask(tmp_path, "plain", seeds=4, alpha=0.2)
    assert "fleet" not in found.environments[0] and not jobs[-1].config[0].train.fleet


def test_one_arm_that_must_be_alone_decides_for_all(tmp_path, monkeypatch):
    jobs = pretend(monkeypatch, lambda arm, lr, seed: 2.0 + 0.001 * seed)
    arms = {"dropped": {"dropout": 0.1}}
    _, printed = ask(tmp_path, arms=arms, seeds=4, alpha=0.2, fleet="on")
    assert "no fleets, as not every arm can be in one (dropped: model.dropout is 0.1" in printed
    assert not any(job.config[0].train.fleet for job in jobs)


def test_the_choice():
    assert choose_fleet("auto", "cpu", "fp32") == "off", "a core is busy with one small model"
    assert choose_fleet("on", "cpu", "fp32") == "on"
    with pytest.raises(UserError, match="'yes' is not a choice for --fleet"):
        choose_fleet("yes", "cpu", "fp32")


def jobs_of(count, folder, **changes):
    base = RunConfig().but(train={"fleet": True}, **changes)
    name = changes["model"]["ffn"]
    configs = [base.but(train={"seed": seed}) for seed in range(count)]
    return [
        Job(f"{name}-s{c.train.seed}", name, c.train.seed, (c, folder, {}),
            folder / f"{name}-{c.train.seed}", c.hash)
        for c in configs
    ]  # fmt: skip


def test_packing(tmp_path, monkeypatch):
    relu, gelu = (jobs_of(5, tmp_path, model={"ffn": ffn}) for ffn in ("relu", "gelu"))
    mixed = [job for pair in zip(relu, gelu, strict=True) for job in pair]
    monkeypatch.setattr(fleets, "largest_fleet", lambda config, wanted: min(wanted, 2))
    heard = []
    found = [[job.name for job in pack] for pack in packs(mixed, heard.append)]
    assert found == [
        ["relu-s0", "relu-s1"], ["relu-s2", "relu-s3"], ["relu-s4"],
        ["gelu-s0", "gelu-s1"], ["gelu-s2", "gelu-s3"], ["gelu-s4"],
    ]  # fmt: skip
    assert heard[0] == Note("relu: 2 runs a fleet, as memory allows no more")


def test_how_many_fit(monkeypatch):
    config = RunConfig().but(model={"vocab_size": 64, "context": 32, "width": 32, "layers": 1})
    monkeypatch.setattr(fleet_size, "_footprints", {})
    monkeypatch.setattr(fleet_size, "dry_run", lambda config, size: 100e6 + 900e6 * (size - 1))
    monkeypatch.setattr(fleet_size.memory, "free_bytes", lambda device: 5e9)
    assert largest_fleet(config, 99) == 5  # 0.1 + 4 x 0.9 GB of 4 GB
    assert largest_fleet(config, 3) == 3 and largest_fleet(config, 1) == 1
    monkeypatch.setattr(fleet_size.memory, "free_bytes", lambda device: 1e6)
    assert largest_fleet(config, 99) == 1
    monkeypatch.undo()
    assert largest_fleet(config, 99) == LARGEST, "a small one on this machine"


def test_two_that_do_not_fit_are_a_fleet_of_one(monkeypatch):
    def too_large(config, size):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(fleet_size, "_footprints", {})
    monkeypatch.setattr(fleet_size, "dry_run", too_large)
    assert largest_fleet(RunConfig().but(model={"layers": 1}), 9) == 1


def test_a_fleet_that_fails_fails_its_runs_only(tmp_path, monkeypatch):
    jobs = jobs_of(3, tmp_path, model={"ffn": "relu"})
    monkeypatch.setattr(fleets, "largest_fleet", lambda config, wanted: 2)

    def train(pack, reports, finished):
        if pack[0].seed == 0:
            (pack[0].folder / "result.json").write_text("{}")
            finished(pack[0])
            raise RuntimeError("out of luck")
        for job in pack:
            (job.folder / "result.json").write_text("{}")
            finished(job)

    monkeypatch.setattr(fleets, "train_pack", train)
    events = []
    summary = run_jobs([jobs], None, 0, 1, events.append)
    assert [event.job.seed for event in summary.finished] == [0, 2]
    (failed,) = summary.failed
    assert isinstance(failed, Failed) and "RuntimeError: out of luck" in failed.sentence
    assert "out of luck" in (jobs[1].folder / "error.txt").read_text()
    # What was finished is kept; the rest is made by the next command.
    monkeypatch.setattr(
        fleets, "train_pack",
        lambda pack, reports, finished: [
            (job.folder / "result.json").write_text("{}") and finished(job) for job in pack
        ],
    )  # fmt: skip
    summary = run_jobs([jobs], None, 0, 1, events.append)
    assert [event.reused for event in summary.finished] == [False, True, True]


def test_a_fleet_that_is_too_large_after_all_is_halved(tmp_path, monkeypatch):
    jobs = jobs_of(5, tmp_path, model={"ffn": "relu"})
    sizes, told = [], []

    def train(entries, text, on_finished):
        sizes.append(len(entries))
        if len(entries) == 5:
            on_finished(entries[0], {})  # it had fewer steps
        if len(entries) > 1:
            raise torch.OutOfMemoryError("no more")
        on_finished(entries[0], {})

    monkeypatch.setattr(fleets, "train_fleet", train)
    monkeypatch.setattr(fleets, "prepare", lambda data, cache: None)
    heard = []
    reports = [Report(job, heard.append) for job in jobs]
    fleets.train_pack(jobs, reports, lambda job: told.append(job.seed))
    assert told == [0, 1, 2, 3, 4] and sizes == [5, 2, 1, 1, 2, 1, 1]
    assert heard[0] == Note("5 runs of relu do not fit: they go on in two fleets")

    def never(entries, text, on_finished):
        raise torch.OutOfMemoryError("not even one")

    monkeypatch.setattr(fleets, "train_fleet", never)
    with pytest.raises(torch.OutOfMemoryError, match="not even one"):
        fleets.train_pack(jobs, reports, told.append)
