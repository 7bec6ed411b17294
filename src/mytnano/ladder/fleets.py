"""Runs of one shape, packed into fleets; the others go to the runner as they are.

Which runs are members is settled before the first one (``--fleet``) and kept with the output
folder, as the precision is: it is part of a run's hash, so no table or verdict mixes the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from mytnano.config import RunConfig
from mytnano.errors import unknown
from mytnano.runs.jobs import Event, Failed, Finished, Job, Note, Report, Summary, Work
from mytnano.runs.runner import run_jobs as run_alone
from mytnano.runs.store import RunFolder
from mytnano.runs.together import carry_out_together
from mytnano.training.fleet import signature, why_alone
from mytnano.training.fleet_size import LARGEST, fleets_pay, largest_fleet
from mytnano.training.fleet_train import Entry, train_fleet
from mytnano.training.text import prepare

CHOICES = ("auto", "on", "off")


def check_fleet(name: str) -> None:
    """Raise UserError unless it is one of :data:`CHOICES`."""
    if name not in CHOICES:
        raise unknown(name, "a choice for --fleet", CHOICES)


def choose_fleet(wanted: str, device: str, precision: str) -> str:
    """``on`` or ``off``: ``auto`` is on where a probe shows that it pays, never on a CPU.

    Raises:
        UserError: no such choice.
    """
    check_fleet(wanted)
    if wanted != "auto":
        return wanted
    return "on" if fleets_pay(device, precision) else "off"  # type: ignore[arg-type]


def as_member(config: RunConfig, fleet: bool) -> RunConfig:
    """A config whose run joins a fleet, if fleets are on and it can."""
    return config.but(train={"fleet": True}) if fleet and not why_alone(config) else config


def first_alone(configs: Iterable[tuple[str, RunConfig]]) -> str:
    """Why designs that must be paired cannot be in fleets: the first that cannot, or empty."""
    reasons = ((name, why_alone(config)) for name, config in configs)
    return next((f"{name}: {reason}" for name, reason in reasons if reason), "")


def run_jobs(
    groups: Sequence[Sequence[Job]],
    work: Work,
    workers: int,
    threads_per_worker: int,
    on_event: Callable[[Event], None],
) -> Summary:
    """As :func:`mytnano.runs.runner.run_jobs`, but members of fleets train first, together, here.

    A job's config is that of :func:`mytnano.ladder.cells.labelled_job`.
    """
    joining = [job for group in groups for job in group if _joins(job)]
    finished: list[Finished] = []
    failed: list[Failed] = []
    for pack in packs(joining, on_event):
        for event in carry_out_together(pack, train_pack, on_event):
            (finished if isinstance(event, Finished) else failed).append(event)  # type: ignore[arg-type]
    names = {job.name for job in joining}
    rest = [[job for job in group if job.name not in names] for group in groups]
    summary = run_alone(rest, work, workers, threads_per_worker, on_event)
    summary.finished[:0], summary.failed[:0] = finished, failed
    return summary


def _joins(job: Job) -> bool:
    """Whether it trains in a fleet; one that is finished is left to the runner, which says so."""
    return job.config[0].train.fleet and not RunFolder(job.folder, job.hash).is_finished()


def packs(jobs: Sequence[Job], on_event: Callable[[Event], None]) -> Iterable[list[Job]]:
    """Jobs of one shape together, at most as many as fit, in the order of the first of each."""
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        alike.setdefault(signature(job.config[0]), []).append(job)
    for mine in alike.values():
        size = largest_fleet(mine[0].config[0], len(mine))
        if size < min(len(mine), LARGEST):
            on_event(Note(f"{mine[0].rung}: {size} runs a fleet, as memory allows no more"))
        parts = -(-len(mine) // size)
        even = -(-len(mine) // parts)  # of equal size, so that one program serves all
        yield from (mine[start : start + even] for start in range(0, len(mine), even))


def train_pack(
    jobs: Sequence[Job], reports: Sequence[Report], finished: Callable[[Job], None]
) -> None:
    """Train one fleet; what :func:`~mytnano.runs.together.carry_out_together` calls.

    Where the memory does not suffice after all, the rest goes on as two fleets of half the size.
    """
    config, cache, _ = jobs[0].config
    text = prepare(config.data, cache)
    by_folder = {job.folder: job for job in jobs}
    done: set[Path] = set()

    def tell(entry: Entry, result: dict) -> None:
        done.add(entry.folder)
        finished(by_folder[entry.folder])

    entries = [
        Entry(job.config[0], job.folder, report.progress, job.config[2])
        for job, report in zip(jobs, reports, strict=True)
    ]
    try:
        train_fleet(entries, text, tell)
        return
    except torch.OutOfMemoryError:
        if len(jobs) == 1:
            raise
    # Outside of the handler, whose exception keeps the fleet's tensors.
    reports[0].note(f"{len(jobs)} runs of {jobs[0].rung} do not fit: they go on in two fleets")
    left = [pair for pair in zip(jobs, reports, strict=True) if pair[0].folder not in done]
    half = -(-len(left) // 2)
    for part in (left[:half], left[half:]):
        if part:
            train_pack([job for job, _ in part], [report for _, report in part], finished)
