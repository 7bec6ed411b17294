"""``mytnano ladder``: plan, train, measure, write the results."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from mytnano.config import DataConfig
from mytnano.designs.budgets import BUDGETS, MIB, Budget
from mytnano.designs.groups import WIDER_GROUPS
from mytnano.designs.rungs import KNOWN, Rung, select
from mytnano.environment import (
    check_precision,
    choose_device,
    count_workers,
    environment,
    one_thread_if,
)
from mytnano.errors import UserError
from mytnano.ladder.attention_cost import FILE as ATTENTION
from mytnano.ladder.attention_cost import attention_cost
from mytnano.ladder.cells import Where, cell, job, work
from mytnano.ladder.closed_form import baselines
from mytnano.ladder.decode_speed import decode_speed
from mytnano.ladder.estimate import START, closing_seconds
from mytnano.ladder.fleets import check_fleet, run_jobs
from mytnano.ladder.folder import Machine, settle
from mytnano.ladder.group_rates import POINTS, planned, to_tune, tune_into, with_known_rates
from mytnano.ladder.results import Results
from mytnano.ladder.sweep import GROUP as SWEEP
from mytnano.ladder.sweep import Sweep, sweep_into, swept
from mytnano.ladder.table import print_table
from mytnano.runs.index import Index
from mytnano.runs.jobs import Event, Job, Summary
from mytnano.runs.lock import folder_lock
from mytnano.runs.progress import Tracker, progress_display
from mytnano.runs.store import MANIFEST, finished_runs
from mytnano.terminal import sentences
from mytnano.text.shards import PREFIX
from mytnano.training.fleet_size import LARGEST
from mytnano.training.precision import choose_precision, tokens_per_second
from mytnano.training.text import read_corpus
from mytnano.words import duration


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        budget: a name in :data:`~mytnano.designs.budgets.BUDGETS`.
        data: the text: corpus, split and test file.
        rungs: ids or groups; empty for the budget's own groups.
        seeds: runs per rung; None for the budget's own number.
        out: folder for runs and results.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        workers: processes; None for one a core on a CPU, and none beside a GPU.
        tune: repeat the sweeps on this corpus at this budget first, and use what they find.
        fleet: ``auto``, ``on`` or ``off``: whether runs of one shape train together.
        plan_only: print the plan and train nothing.
    """

    budget: str
    data: DataConfig
    out: Path
    rungs: tuple[str, ...] = ()
    seeds: int | None = None
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    tune: bool = False
    fleet: str = "auto"
    plan_only: bool = False


def climb(request: Request, console: Console) -> int:
    """Run the ladder and write its results; return the exit code.

    Raises:
        UserError: something that the user can mend; nothing finished is lost.
        KeyboardInterrupt: Ctrl-C; the same command continues.
    """
    budget = known_budget(request.budget)
    rungs = select(list(request.rungs or budget.groups))
    choose_device(request.device)
    check_precision(request.precision)
    check_fleet(request.fleet)
    if request.tune and request.plan_only:
        raise UserError("--plan cannot foresee --tune, whose sweeps are training: leave one out")
    data = request.data
    if data.corpus.startswith(PREFIX):  # its baselines are counted in bytes and in characters
        raise UserError(
            "a ladder needs its text in several vocabularies, and shards hold one: give the text "
            "itself, or train one design on the shards with `mytnano train`"
        )
    with console.status("reading the text"):
        corpus = read_corpus(data.corpus, data.split, data.test_file)
    say = sentences(console)
    with folder_lock(request.out):
        for note in corpus.notes:
            say(f"{corpus.name}: {note}")
        machine = Machine(request.device, request.precision, request.fleet)
        shared = settle(request.out, budget.name, data, corpus.fingerprint, machine, say)
        fleet = shared.fleet == "on"
        where = Where(data, request.out, shared.precision, shared.device, fleet=fleet)
        speed = probe(where, say)
        workers = count_workers(request.workers, where.device, fleet)
        conditions = environment(where.device, where.precision) | {"workers": workers}
        if fleet:
            conditions["fleet"] = LARGEST
            say(f"runs of one shape train together, up to {LARGEST} in a fleet")
        with one_thread_if((workers == 0 or fleet) and where.device == "cpu"):
            sweep = Sweep(where, budget, workers, speed, console)
            if request.tune:
                sweep_into(sweep, conditions)
            sweep = replace(sweep, where=swept(where))
            with console.status("tokenising the text"):
                sweep = replace(sweep, where=with_known_rates(sweep))
                groups = plan(rungs, budget, request.seeds, sweep.where, speed, say)
                rungs = [KNOWN[group[0].rung] for group in groups]
                wanted = to_tune(rungs)
                searches = planned(sweep, wanted)
            announce(groups, searches, budget, sweep, say)
            if request.plan_only:
                return 0
            where = tune_into(sweep, wanted, conditions, say)
            if wanted:
                groups = plan(rungs, budget, request.seeds, where, speed, say)
            results = Results(request.out, budget, corpus, conditions)
            add_earlier(results, groups, budget, where, say)
            summary = train(groups, workers, results, console)
        with console.status("closed-form baselines"):
            known = baselines(where, budget)
        with console.status("attention cost"):
            attention_cost(where, budget)
        with console.status("decoding speed"), one_thread_if(True):
            decode_speed(where, budget, results.rows)
        Index(request.out).rows()
    print_table(results.rows, known["full"], budget, console)
    for failed in summary.failed:
        console.print(failed.sentence, style="red", highlight=False, markup=False, soft_wrap=True)
    return summary.exit_code


def known_budget(name: str) -> Budget:
    """The budget of that name; raises UserError for any other."""
    if name not in BUDGETS:
        raise UserError(f"'{name}' is not a budget; there are {', '.join(BUDGETS)}")
    return BUDGETS[name]


def probe(where: Where, say: Callable[[str], None]) -> float:
    """Tokens/s of this machine in the precision of the runs, and tell both."""
    _, speeds = choose_precision(where.device)
    if where.precision not in speeds:  # the folder was begun on a machine where it paid
        speeds[where.precision] = tokens_per_second(where.precision, where.device, 1)
    rates = ", ".join(f"{rate:,.0f} tokens/s in {name}" for name, rate in speeds.items())
    slow = "" if "bf16" in speeds else "; this processor has no fast bf16 products"
    say(f"{where.device}: {where.precision} (a probe made {rates}{slow})")
    return speeds[where.precision]


LION = "optimizers-lion"
LONG = 1800.0
"""Seconds above which a plan says what a first look would take."""


def plan(
    rungs: list[Rung],
    budget: Budget,
    seeds: int | None,
    where: Where,
    speed: float,
    say: Callable[[str], None],
) -> list[list[Job]]:
    """One group of jobs per rung: its seeds.

    Left out, and told, are rungs of an extended group whose optimizer is not installed, and those
    that this text makes the same as another, as it supports no vocabulary of their size.
    """
    groups: list[list[Job]] = []
    seen: dict[str, str] = {}
    for rung in rungs:
        if rung.id == LION and importlib.util.find_spec("lion_pytorch") is None:
            say(f"{rung.id} is left out: it needs the package lion-pytorch (pip install it)")
            continue
        first = cell(rung, budget, 0, where, say)
        same = seen.setdefault(first.hash, rung.id)
        if same != rung.id and rung.group in WIDER_GROUPS:
            say(f"{rung.id} is left out: on this text it is the same run as {same}")
            continue
        count = seeds or budget.seeds_of(rung.group)
        configs = [first.but(train={"seed": seed}) for seed in range(count)]
        groups.append([job(rung, config, where, speed) for config in configs])
    return groups


def announce(
    groups: list[list[Job]],
    searches: dict[str, list[Job]],
    budget: Budget,
    sweep: Sweep,
    say: Callable[[str], None],
) -> None:
    """The plan before the first step: how much, and how long on this machine.

    Args:
        searches: rung -> the runs with which the search for its learning rate begins.
    """
    where, workers, speed = sweep.where, sweep.workers, sweep.speed
    jobs = list(itertools.chain.from_iterable(groups))
    todo = [each for each in jobs if not (each.folder / MANIFEST).exists()]
    workers = max(1, workers)
    open_searches = {id: runs for id, runs in searches.items() if id not in where.group_rates}
    seconds = Tracker(todo, workers).seconds_left() + START * bool(todo)
    seconds += search_seconds(open_searches.values(), workers)
    if not (where.out / ATTENTION).exists():  # the last of what is measured besides the runs
        seconds += closing_seconds(where.corpus, budget.comparable, speed)
    total = seconds
    say(
        f"budget {budget.name}: {counted(len(groups), 'rung')}, {counted(len(jobs), 'run')} on "
        f"{counted(workers, 'process', 'processes')}"
        + (f", {len(jobs) - len(todo)} finished already" if len(todo) < len(jobs) else "")
        + f"; {'at most' if where.fleet else 'about'} {duration(seconds)} on this machine"
    )
    named = [KNOWN[id] for id in [*open_searches, *(each.rung for each in todo)]]
    for group in sorted({rung.group for rung in named}, key=[r.group for r in named].index):
        own = [each for each in todo if KNOWN[each.rung].group == group]
        mine = [runs for id, runs in open_searches.items() if KNOWN[id].group == group]
        seconds = Tracker(own, workers).seconds_left() + search_seconds(mine, workers)
        text = size(budget.bytes_of(group))
        scaled = any(KNOWN[each.rung].equal_flops for each in own)
        words = f"{counted(len(own), 'run')} of {text} each"
        words += " (those at equal FLOPs: of as many as these pay for)" if scaled else ""
        if mine:
            rates = counted(len(mine), "learning rate")
            words += f", after some {POINTS * len(mine)} that tune {rates}"
        say(f"  {group}: {words}, {duration(seconds)}")
    first = [each for each in todo if KNOWN[each.rung].group == "core" and each.seed == 0]
    if total > LONG and first and len(first) < len(todo):
        seconds = Tracker(first, workers).seconds_left()
        say(
            f"  a first look: --rungs core --seeds 1 takes about {duration(seconds)}, and a later "
            "command without them does not repeat its runs"
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


def size(count: int) -> str:
    """``256 KiB``, ``40 MiB``."""
    return f"{count / MIB:g} MiB" if count >= MIB else f"{count / 1024:g} KiB"


def counted(number: int, one: str, many: str = "") -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def add_earlier(
    results: Results,
    groups: list[list[Job]],
    budget: Budget,
    where: Where,
    say: Callable[[str], None],
) -> None:
    """Take in the finished runs of other rungs or seeds that an earlier command made here.

    Only those that this command would make alike; the rest is left out, and told.
    """
    planned = {job.folder.name for group in groups for job in group}
    runs, notes = finished_runs(where.out)
    for note in notes:
        if note.split()[0] not in planned:
            say(note)
    others = 0
    for run in runs:
        result = run.result()
        if run.path.name in planned or result.get("group") == SWEEP:
            continue
        rung = KNOWN.get(result["rung"])
        if rung and cell(rung, budget, result["seed"], where).hash == result["config_hash"]:
            results.add(run.path)
        else:
            others += 1
    if others:
        say(
            f"{counted(others, 'finished run')} in {where.out} came from other settings or another "
            "version and will not be among the results"
        )


def train(groups: list[list[Job]], workers: int, results: Results, console: Console) -> Summary:
    """Make the runs, with a display; the results are written even if this is interrupted."""
    with progress_display(groups, max(1, workers), console) as display:

        def hear(event: Event) -> None:
            results.hear(event)
            display(event)

        try:
            return run_jobs(groups, work, workers, 1, hear)
        finally:
            results.write()
