"""The runs behind a search for learning rates that is not of rungs: each design, rate and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.ladder.cells import Where, labelled_job, work
from mytnano.ladder.sweep import GROUP
from mytnano.ladder.tune import grid_rate
from mytnano.runs.jobs import Job
from mytnano.runs.progress import progress_display
from mytnano.runs.runner import run_jobs


@dataclass(frozen=True)
class Trials:
    """Runs of named designs at rates of the grid, for :func:`~mytnano.ladder.tune.search`.

    Attributes:
        config: (design, rate, seed) -> the resolved run.
        seeds: of each rate; no run that is published may have them, as a choice made on a seed
            flatters that seed.
        where, workers: as in :class:`~mytnano.ladder.sweep.Sweep`, and ``speed`` too.
        group: of the runs.
    """

    config: Callable[[str, float, int], RunConfig]
    seeds: Sequence[int]
    where: Where
    workers: int
    speed: float
    console: Console
    group: str = GROUP

    def measure(self, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], float]:
        """(design, exponent) -> mean validation BPB over the seeds, infinite if one diverged."""
        jobs = {(*point, seed): self.job(*point, seed) for point in wanted for seed in self.seeds}
        results = trained(
            [[job] for job in jobs.values()], self.workers, self.console, "nothing can be chosen"
        )
        scores = {key: results[job.name]["validation_bpb"] for key, job in jobs.items()}
        return {point: mean([scores[*point, seed] for seed in self.seeds]) for point in wanted}

    def job(self, name: str, exponent: int, seed: int) -> Job:
        """The run of a design at a rate of the grid; its test text stays unread."""
        lr = grid_rate(exponent)
        config = self.config(name, lr, seed).but(train={"score_test": False})
        labels = {"rung": name, "group": self.group}
        return labelled_job(f"{name}-lr{lr:g}-s{seed}", config, self.where, self.speed, labels)


def mean(scores: Sequence[float | None]) -> float:
    """Of scores; infinite if a run has none, as it diverged."""
    return sum(math.inf if bpb is None else bpb for bpb in scores) / len(scores)


def trained(
    groups: Sequence[Sequence[Job]], workers: int, console: Console, lost: str
) -> Mapping[str, dict]:
    """Job name -> result, of runs made now or before.

    Args:
        lost: what is lost if one fails, for the sentence.

    Raises:
        UserError: a run failed; the others stay.
    """
    with progress_display(groups, max(1, workers), console) as show:
        summary = run_jobs(groups, work, workers, 1, show)
    if summary.failed:
        raise UserError(f"{summary.failed[0].sentence}; without it {lost}")
    return summary.results
