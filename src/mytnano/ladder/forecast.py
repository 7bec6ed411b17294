"""``mytnano forecast``: make the runs of a designed ladder, and give them to the law."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mytnano.config import DataConfig, RunConfig
from mytnano.environment import choose_device, count_workers, environment, one_thread_if
from mytnano.errors import UserError
from mytnano.files import MANIFEST
from mytnano.kept import read_kept, with_conditions, write_kept
from mytnano.ladder.cells import Where, labelled_job
from mytnano.ladder.folder import FILE, Machine, settle
from mytnano.ladder.run import probe
from mytnano.ladder.sweep import SEEDS
from mytnano.ladder.trials import Trials, trained
from mytnano.ladder.tune import search
from mytnano.measure.memory_plan import count_weights
from mytnano.planning.law import Run
from mytnano.planning.sizes import Ladder, Size, cell_rate, config_of, ladder_named
from mytnano.runs.jobs import Job
from mytnano.runs.lock import folder_lock
from mytnano.runs.progress import Tracker
from mytnano.runs.store import run_folders
from mytnano.terminal import sentences
from mytnano.text.readers import check_apart
from mytnano.training.matching import run_flops
from mytnano.training.text import read_corpus, resolve
from mytnano.words import duration

CONDITIONS = "conditions.json"
"""Of an output folder: hardware, versions, commit and date of its runs, as they were made."""

PREFIX = "forecast-"
"""Of the budget's name in the folder, where ladders keep theirs."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        budget: a name in :data:`~mytnano.planning.sizes.LADDERS`.
        data: corpus and split.
        out: folder for runs and results.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        workers: processes; None for one a core on a CPU, and none beside a GPU.
    """

    budget: str
    data: DataConfig
    out: Path
    device: str = "auto"
    workers: int | None = None


@dataclass(frozen=True)
class Made:
    """The runs, under which conditions they were made, and the tuned learning rates by size."""

    runs: list[Run]
    environments: list[dict[str, Any]]
    rates: dict[str, float]
    corpus: str


def make_runs(request: Request, console: Console) -> Made:
    """Make every run that is not finished yet; the same call continues an interrupted one.

    Raises:
        UserError: the corpus is too small for the budget, or a run failed; what was finished
            stays.
    """
    ladder = ladder_named(request.budget)
    device = choose_device(request.device)
    data = request.data
    check_apart(data.corpus, request.out)
    with console.status("reading the text"):
        corpus = read_corpus(data.corpus, data.split, data.test_file)
    size = sum(map(len, corpus.train))
    if size < ladder.longest:
        raise UserError(
            f"budget {ladder.name} trains on up to {ladder.longest:,} bytes, none of them twice, "
            f"and '{data.corpus}' has {size:,} bytes of training text: give --corpus with more, or "
            "--budget smoke"
        )
    say = sentences(console)
    with folder_lock(request.out):
        _check_budget(request.out, ladder.name)
        machine = Machine(device)
        named = f"{PREFIX}{ladder.name}"
        shared = settle(request.out, named, data, corpus.fingerprint, machine, say)
        where = Where(data, request.out, shared.precision, shared.device)
        speed = probe(where, say)
        trainer = _Trainer(
            ladder, where, count_workers(request.workers, device, text=corpus.held), speed, console
        )
        now = environment(device, where.precision) | {"workers": trainer.workers}
        notes = _Conditions(request.out, now)
        with one_thread_if(trainer.workers == 0 and device == "cpu"):
            rates = trainer.tuned()
            jobs = [
                trainer.job(size, count, cell_rate(ladder, size, count, rates), seed)
                for size, count in ladder.cells
                for seed in range(ladder.seeds)
            ]
            left = duration(Tracker(jobs, max(1, trainer.workers)).seconds_left())
            say(f"budget {ladder.name}: {len(jobs)} runs, about {left} on this machine if all new")
            results = trainer.train(jobs)
        environments = notes.of_all_runs()
    runs = [_run(job, results[job.name]) for job in jobs if _converged(job, results[job.name], say)]
    return Made(runs, environments, {s.name: lr for s, lr in (rates or {}).items()}, corpus.name)


@dataclass(frozen=True)
class _Trainer:
    """What all runs share; ``speed`` as in :func:`mytnano.ladder.cells.labelled_job`."""

    ladder: Ladder
    where: Where
    workers: int
    speed: float
    console: Console

    def config(self, size: Size, count: int, lr: float, seed: int) -> RunConfig:
        where = self.where
        machine = {"precision": where.precision, "device": where.device}
        config = config_of(self.ladder, size, count, lr, seed).but(data=where.text, train=machine)
        return resolve(config, where.cache)

    def job(self, size: Size, count: int, lr: float, seed: int) -> Job:
        name = f"{_name(size, count)}-lr{lr:g}-s{seed}"
        labels = {"rung": size.name, "group": "forecast"}
        config = self.config(size, count, lr, seed)
        return labelled_job(name, config, self.where, self.speed, labels)

    def train(self, jobs: list[Job]) -> Mapping[str, dict]:
        """Job name -> result; the runs of one shape share compiled code."""
        groups = [list(group) for _, group in itertools.groupby(jobs, key=lambda job: job.rung)]
        return trained(groups, self.workers, self.console, "there is no forecast")

    def tuned(self) -> dict[Size, float]:
        """The rates of the sizes that are tuned, by the ladder's own rule."""
        count = self.ladder.tuned_bytes
        sizes = {_name(size, count): size for size in self.ladder.tuned}
        config = lambda name, lr, seed: self.config(sizes[name], count, lr, seed)
        trials = Trials(config, SEEDS, self.where, self.workers, self.speed, self.console, "tuning")
        return {sizes[name]: found.lr for name, found in search([*sizes], trials.measure).items()}


def _name(size: Size, count: int) -> str:
    return f"{size.name}-{count // 1024}k"


class _Conditions:
    """Hardware, versions, commit and date of a folder's runs, kept in it as they are made.

    Those of ``now`` are written down before the first run, in case the command is killed, and taken
    back if it has made none.
    """

    def __init__(self, out: Path, now: dict[str, Any]) -> None:
        self.out, self.path = out, out / CONDITIONS
        self.before = self._finished()
        unknown = [{"commit": ""}] if self.before else []  # runs of whoever kept no such file
        self.known = (read_kept(self.path) or {}).get("environments", unknown)
        self.with_now = with_conditions(self.known, now)
        self._write(self.with_now)

    def of_all_runs(self) -> list[dict[str, Any]]:
        """The conditions of the runs that are in the folder now."""
        if self._finished() == self.before:
            self._write(self.known)
            return self.known
        return self.with_now

    def _finished(self) -> set[Path]:
        return {folder for folder in run_folders(self.out) if (folder / MANIFEST).exists()}

    def _write(self, environments: list[dict[str, Any]]) -> None:
        write_kept(self.path, None, {"environments": environments})


def _check_budget(out: Path, name: str) -> None:
    """Raise UserError if the folder holds runs of another budget, or of a ladder."""
    held = (read_kept(out / FILE) or {}).get("budget")
    if held in (None, f"{PREFIX}{name}") or not run_folders(out):
        return
    kind = "a forecast" if held.startswith(PREFIX) else "a ladder"
    raise UserError(
        f"{out} holds {kind} with --budget {held.removeprefix(PREFIX)}, and this is a forecast "
        f"with --budget {name}: choose another --out folder for it"
    )


def _converged(job: Job, result: dict, say: Callable[[str], None]) -> bool:
    """Whether a run has a loss that a law can be fitted to; if not, that is said."""
    if result["test_bpb"] is None or result["status"] == "diverged":
        say(f"{job.name} diverged and is left out: see {job.folder}")
        return False
    return True


def _run(job: Job, result: dict) -> Run:
    config: RunConfig = job.config[0]
    weights = count_weights(config.model)
    # As planned: what the windows of a seed really held differs by a thousandth or so.
    size = config.steps * config.train.batch_windows * config.data.window_bytes
    params = weights.hidden + weights.head
    return Run(params, size, result["test_bpb"], str(job.seed), run_flops(config))
