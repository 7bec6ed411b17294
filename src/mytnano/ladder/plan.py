"""What a ladder will train, and how long that takes on this machine, told before the first step."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from mytnano.designs.budgets import Budget, text_size
from mytnano.designs.groups import WIDER_GROUPS
from mytnano.designs.rungs import KNOWN, Rung, design
from mytnano.errors import UserError, install
from mytnano.ladder.cells import Where, cell, job, middle_of, unsuited
from mytnano.ladder.estimate import START, closing_seconds
from mytnano.ladder.group_rates import POINTS
from mytnano.ladder.sweep import Sweep, rates_used, sizes_matter
from mytnano.run_files import ATTENTION
from mytnano.runs.jobs import Job
from mytnano.runs.progress import Tracker
from mytnano.runs.store import MANIFEST
from mytnano.words import counted, duration, listed, rounded

LION = "optimizers-lion"
LONG = 1800.0
"""Seconds above which a plan says what a first look would take."""

Say = Callable[[str], None]


def plan(
    rungs: Sequence[Rung], budget: Budget, seeds: int | None, where: Where, speed: float, say: Say
) -> list[list[Job]]:
    """One group of jobs per rung: its seeds.

    Left out, and told, are rungs whose optimizer is not installed, those that the text does not
    suit, and those of an extended group that it makes the same as another.

    Raises:
        UserError: no rung is left.
    """
    groups: list[list[Job]] = []
    left_out: list[str] = []
    seen: dict[str, str] = {}
    for rung in rungs:
        if reason := _lacking(rung) or unsuited(rung, budget, where):
            left_out.append(f"{rung.id} is left out: {reason}")
            continue
        first = cell(rung, budget, 0, where, say)
        same = seen.setdefault(first.hash, rung.id)
        if same != rung.id and rung.group in WIDER_GROUPS:
            left_out.append(f"{rung.id} is left out: on this text it is the same run as {same}")
            continue
        count = seeds or budget.seeds_of(rung.group)
        configs = [first.but(train={"seed": seed}) for seed in range(count)]
        groups.append([job(rung, config, where, speed) for config in configs])
    if not groups:
        raise UserError(f"there is nothing to run: {'; '.join(left_out)}")
    for sentence in left_out:
        say(sentence)
    return groups


def _lacking(rung: Rung) -> str:
    if rung.id == LION and importlib.util.find_spec("lion_pytorch") is None:
        return f"it needs lion-pytorch: run `{install('optim')}`"
    return ""


def announce(
    groups: Sequence[Sequence[Job]],
    searches: Mapping[str, Sequence[Job]],
    budget: Budget,
    sweep: Sweep,
    say: Say,
) -> None:
    """The plan before the first step: how much, and how long on this machine.

    Args:
        searches: rung -> the runs with which the search for its learning rate begins.
    """
    where, workers = sweep.where, max(1, sweep.workers)
    jobs = list(itertools.chain.from_iterable(groups))
    todo = [each for each in jobs if not (each.folder / MANIFEST).exists()]
    open_searches = {id: runs for id, runs in searches.items() if id not in where.group_rates}
    total = Tracker(todo, workers).seconds_left() + START * bool(todo)
    total += search_seconds(open_searches.values(), workers)
    if not (where.out / ATTENTION).exists():  # the last of what is measured besides the runs
        total += closing_seconds(where.corpus, budget.comparable, sweep.speed)
    say(
        f"budget {budget.name}: {counted(len(groups), 'rung')}, {counted(len(jobs), 'run')} on "
        f"{counted(workers, 'process', 'processes')}"
        + (f", {len(jobs) - len(todo)} finished already" if len(todo) < len(jobs) else "")
        + f"; {'at most' if where.fleet else 'about'} {duration(total)} on this machine"
    )
    named = [KNOWN[id] for id in [*open_searches, *(each.rung for each in todo)]]
    for group in dict.fromkeys(rung.group for rung in named):
        own = [each for each in todo if KNOWN[each.rung].group == group]
        mine = [runs for id, runs in open_searches.items() if KNOWN[id].group == group]
        seconds = Tracker(own, workers).seconds_left() + search_seconds(mine, workers)
        words = f"{counted(len(own), 'run')} of {text_size(budget.bytes_of(group))} each"
        words += _passes(budget.bytes_of(group), where) + _equal_flops(own, budget, where)
        if mine:
            rates = counted(len(mine), "learning rate")
            words += f", after some {POINTS * len(mine)} that tune {rates}"
        say(f"  {group}: {words}, {duration(seconds)}")
    first = [each for each in todo if each.seed == 0]
    if total > LONG and first and len(first) < len(todo):
        seconds = Tracker(first, workers).seconds_left()
        seconds += search_seconds(open_searches.values(), workers)
        say(
            f"  a first look: --seeds 1 takes about {duration(seconds)}, and a later command "
            "without it does not repeat its runs"
        )


def _passes(size: int, where: Where) -> str:
    """How often a run reads the text, if more than once."""
    times = rounded(size / where.train_bytes, 2)
    if times <= 1:
        return ""
    return f" ({times:g} times the training text, which has {text_size(where.train_bytes)})"


def _equal_flops(jobs: Iterable[Job], budget: Budget, where: Where) -> str:
    rung = next((KNOWN[each.rung] for each in jobs if KNOWN[each.rung].equal_flops), None)
    if rung is None:
        return ""
    middle = design(middle_of(rung, budget, where).id).data.tokenizer
    return f" (those at equal FLOPs: of as many as those of {middle} pay for)"


def announce_sweeps(sweep: Sweep, rungs: Sequence[Rung], say: Say) -> None:
    """What ``--tune`` trains before the ladder: which rates, and how long that takes."""
    ids = rates_used(rungs)
    searches = [sweep.jobs_at(id) for id in ids]
    sizes = list(sweep.vocabulary_jobs().values()) if sizes_matter(rungs) else []
    seconds = search_seconds([*searches, *sizes], max(1, sweep.workers))
    first = f"{counted(len(sizes), 'size')} of the trained vocabulary and " if sizes else ""
    say(
        f"--tune: some {POINTS * (len(searches) + len(sizes))} runs tune the learning rates of "
        f"{first}{listed(ids) or 'no rung'}, about {duration(seconds)} on this machine"
    )


def search_seconds(searches: Iterable[Sequence[Job]], workers: int) -> float:
    """Expected seconds of searches for learning rates, of which only the first runs are known."""
    left = [
        replace(run, expected_seconds=run.expected_seconds * POINTS / len(runs))
        for runs in searches
        for run in runs
        if not (run.folder / MANIFEST).exists()
    ]
    return Tracker(left, workers).seconds_left()
