"""``mytnano ladder``: plan, train, measure, write the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from mytnano.config import DataConfig
from mytnano.designs.budgets import BUDGETS, Budget
from mytnano.designs.rungs import KNOWN, Rung, select
from mytnano.environment import (
    check_precision,
    choose_device,
    count_workers,
    environment,
    one_thread_if,
)
from mytnano.errors import UserError, unknown
from mytnano.ladder.attention_cost import attention_cost
from mytnano.ladder.cells import Where, cell, unsuited, work
from mytnano.ladder.closed_form import baselines
from mytnano.ladder.decode_speed import decode_speed
from mytnano.ladder.fleets import check_fleet, run_jobs
from mytnano.ladder.folder import Machine, settle
from mytnano.ladder.group_rates import planned, to_tune, tune_into, with_known_rates
from mytnano.ladder.plan import Say, announce, announce_sweeps, plan
from mytnano.ladder.results import Results
from mytnano.ladder.sweep import Sweep, rates_used, sweep_into, swept
from mytnano.ladder.table import print_table
from mytnano.ladder.trials import GROUP as SWEEP
from mytnano.runs.index import Index
from mytnano.runs.jobs import Event, Job, Summary
from mytnano.runs.lock import folder_lock
from mytnano.runs.progress import progress_display
from mytnano.runs.store import RunFolder, finished_runs
from mytnano.terminal import sentences
from mytnano.text.readers import check_apart
from mytnano.text.shards import PREFIX
from mytnano.training.fleet_size import LARGEST
from mytnano.training.precision import choose_precision, tokens_per_second
from mytnano.training.text import read_corpus
from mytnano.words import counted, listed


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
        tune: first tune the rates that these rungs use on this corpus at this budget, and the size
            of the trained vocabulary if one of them has the best.
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
        UserError: something that the user can fix; nothing finished is lost.
        KeyboardInterrupt: Ctrl-C; the same command continues.
    """
    budget = known_budget(request.budget)
    rungs = select(list(request.rungs or budget.groups))
    check(request)
    data = request.data
    with console.status("reading the text"):
        corpus = read_corpus(data.corpus, data.split, data.test_file)
    say = sentences(console)
    with folder_lock(request.out):
        for note in corpus.notes:
            say(f"{corpus.name}: {note}")
        machine = Machine(request.device, request.precision, request.fleet)
        shared = settle(request.out, budget.name, data, corpus.fingerprint, machine, say)
        data = data.but(corpus=shared.corpus, test_file=shared.test_file)
        fleet = shared.fleet == "on"
        where = Where(data, request.out, shared.precision, shared.device, fleet=fleet)
        speed = probe(where, say)
        workers = count_workers(request.workers, where.device, fleet, corpus.held)
        conditions = environment(where.device, where.precision) | {"workers": workers}
        if fleet:
            conditions["fleet"] = LARGEST
            say(f"runs of one shape train together, up to {LARGEST} in a fleet")
        sweep = Sweep(where, budget, workers, speed, console)
        with one_thread_if((workers == 0 or fleet) and where.device == "cpu"):
            ready = prepared(request, sweep, rungs, conditions, say)
            if request.plan_only:
                return 0
            made = trained(request, ready, conditions, say)
        known = measured(ready.sweep.where, budget, made.results, console)
        folders = [RunFolder(each.job.folder) for each in made.summary.finished]
        Index(request.out).refresh([*made.earlier, *folders])
    print_table(made.results.rows, known["budget"], budget, console)
    for failed in made.summary.failed:
        console.print(failed.sentence, style="red", highlight=False, markup=False, soft_wrap=True)
    return made.summary.exit_code


def check(request: Request) -> None:
    """Raise UserError for what can be refused before the text is read."""
    choose_device(request.device)
    check_precision(request.precision)
    check_fleet(request.fleet)
    check_apart(request.data.corpus, request.out)
    if request.tune and request.plan_only:
        raise UserError("--plan cannot foresee --tune, whose sweeps are training: leave one out")
    if request.data.corpus.startswith(PREFIX):  # baselines are counted in bytes and in characters
        raise UserError(
            "a ladder needs its text in several vocabularies, and shards hold one: give the text "
            "itself, or train one design on the shards with `mytnano train`"
        )


@dataclass(frozen=True)
class Ready:
    """A ladder that is announced: its runs, and the rungs whose rates are to be tuned first."""

    sweep: Sweep
    groups: list[list[Job]]
    rungs: list[Rung]
    untuned: list[str]


def prepared(
    request: Request, sweep: Sweep, rungs: list[Rung], conditions: dict, say: Say
) -> Ready:
    """Tune what ``--tune`` asks for, then plan the runs and announce them."""
    budget, console = sweep.budget, sweep.console
    if request.tune:
        with console.status("tokenising the text"):
            announce_sweeps(sweep, rungs, say)
        sweep_into(sweep, rungs, conditions)
    sweep = replace(sweep, where=swept(sweep.where))
    tell_shipped(sweep.where, rungs, say)
    with console.status("tokenising the text"):
        sweep = replace(sweep, where=with_known_rates(sweep))
        groups = plan(rungs, budget, request.seeds, sweep.where, sweep.speed, say)
        rungs = [KNOWN[group[0].rung] for group in groups]
        untuned = to_tune(rungs)
        searches = planned(sweep, untuned)
    announce(groups, searches, budget, sweep, say)
    return Ready(sweep, groups, rungs, untuned)


@dataclass(frozen=True)
class Made:
    """The finished runs: those of this command, and those that an earlier one left."""

    results: Results
    summary: Summary
    earlier: list[RunFolder]


def trained(request: Request, ready: Ready, conditions: dict, say: Say) -> Made:
    """Tune the rates of extended rungs, then make the runs."""
    sweep, groups = ready.sweep, ready.groups
    where = tune_into(sweep, ready.untuned, conditions, say)
    if ready.untuned:
        groups = plan(ready.rungs, sweep.budget, request.seeds, where, sweep.speed, say)
    results = Results(request.out, sweep.budget, where.corpus, conditions)
    earlier = add_earlier(results, groups, sweep.budget, where, say)
    return Made(results, train(groups, sweep.workers, results, sweep.console), earlier)


def measured(where: Where, budget: Budget, results: Results, console: Console) -> dict[str, Any]:
    """Make what stands beside the runs, once an output folder; return the closed-form baselines."""
    with console.status("closed-form baselines"):
        known = baselines(where, budget, seeds_of("bigram", results.rows))
    with console.status("attention cost"):
        attention_cost(where, budget)
    with console.status("decoding speed"), one_thread_if(True):
        decode_speed(where, budget, results.rows)
    return known


def tell_shipped(where: Where, rungs: Sequence[Rung], say: Say) -> None:
    """Say which rates are not of this folder's sweep, if it has one that lacks some."""
    missing = set((where.rates or {}).get("shipped", ()))
    if ids := [id for id in rates_used(rungs) if id in missing]:
        say(
            f"not tuned in this folder, so at the shipped rate: {listed(ids)}; --tune with these "
            "rungs tunes them"
        )


def seeds_of(rung: str, rows: Sequence[dict[str, Any]]) -> list[int]:
    """The seeds that a rung was run with."""
    return [row["seed"] for row in rows if row["rung"] == rung]


def known_budget(name: str) -> Budget:
    """The budget of that name; raises UserError for any other."""
    if name not in BUDGETS:
        raise unknown(name, "a budget", BUDGETS)
    return BUDGETS[name]


def probe(where: Where, say: Say) -> float:
    """Tokens/s of this machine in the precision of the runs, and tell both."""
    _, speeds = choose_precision(where.device)
    if where.precision not in speeds:  # the folder was begun on a machine where it paid
        speeds[where.precision] = tokens_per_second(where.precision, where.device, 1)
    rates = ", ".join(f"{rate:,.0f} tokens/s in {name}" for name, rate in speeds.items())
    slow = "" if "bf16" in speeds else "; this processor has no fast bf16 products"
    say(f"{where.device}: {where.precision} (a probe made {rates}{slow})")
    return speeds[where.precision]


def add_earlier(
    results: Results,
    groups: list[list[Job]],
    budget: Budget,
    where: Where,
    say: Say,
) -> list[RunFolder]:
    """Take in the finished runs of other rungs or seeds that an earlier command made here.

    Only those that this command would make alike; the rest is left out, and told. What is known of
    the planned ones stays until each is heard of.

    Returns:
        All finished runs in the folder but the planned ones, whose files were checked.
    """
    planned = {job.folder.name for group in groups for job in group}
    results.expect(planned)
    runs, damaged = finished_runs(where.out, without=planned)
    for path, reason in damaged:
        say(f"{path.name} is damaged ({reason}) and is left out")
    others = 0
    for run in runs:
        result = run.result()
        if result.get("group") == SWEEP:
            continue
        rung = KNOWN.get(result["rung"])
        if rung and _is_of(rung, result, budget, where):
            results.add(run.path)
        else:
            others += 1
    if others:
        say(
            f"{counted(others, 'finished run')} in {where.out} came from other settings or another "
            "version and will not be among the results"
        )
    return runs


def _is_of(rung: Rung, result: dict[str, Any], budget: Budget, where: Where) -> bool:
    """Whether a finished run is what this command would train of that rung, under its name."""
    if unsuited(rung, budget, where):
        return False
    return cell(rung, budget, result["seed"], where).hash == result["config_hash"]


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
