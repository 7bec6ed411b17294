"""``mytnano ablate``: plan, tune, confirm seed by seed until the rule decides, say the answer."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from mytnano.config import DataConfig
from mytnano.environment import choose_device, count_workers, environment, one_thread_if
from mytnano.errors import UserError
from mytnano.kept import read_kept, write_kept
from mytnano.lab.answer import Answer, Sized, answer, unfit_seeds, write_results
from mytnano.lab.cells import Bench, Results
from mytnano.lab.curve import FACTORS, SEEDS, at, measure_curve
from mytnano.lab.document import write_json
from mytnano.lab.figure import write_figure
from mytnano.lab.live import PairWatch
from mytnano.lab.plan import Arm, Plan, make_plan
from mytnano.lab.show import print_answer, print_plan, print_rates, print_state
from mytnano.lab.spec import Spec, read_spec
from mytnano.lab.steptime import measure_times
from mytnano.lab.trends import trends_of
from mytnano.lab.tuning import Rate
from mytnano.ladder.cells import Where
from mytnano.ladder.fleets import check_fleet, choose_fleet, first_alone
from mytnano.runs.lock import folder_lock
from mytnano.runs.store import run_folders
from mytnano.stats.eprocess import fewest_pairs
from mytnano.terminal import sentences
from mytnano.training.fleet_size import LARGEST
from mytnano.training.precision import choose_precision, tokens_per_second
from mytnano.training.text import read_corpus
from mytnano.words import duration

Say = Callable[[str], None]

PLAN = "plan.json"
MACHINE = "machine.json"
BLOCK = 4
"""Seeds between two looks after the first one: new worker processes take some seconds to start."""
POINTS = 5
"""Rates that the search for one usually takes."""


def ablate(
    question: str | Path | Mapping[str, Any] | Spec,
    out: str | Path,
    console: Console | None = None,
    device: str = "auto",
    workers: int | None = None,
    time: bool = False,
    fleet: str = "auto",
    **overrides: Any,
) -> Answer:
    """Answer a design question; the same call continues an interrupted one.

    Args:
        question: a YAML file, a built-in's name, or the values of :class:`Spec`.
        out: folder for runs and answer; it belongs to one question.
        console: where to print; None prints nothing.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        workers: processes; None for one a core on a CPU, and none beside a GPU.
        time: time a step of each design when the runs are done; for a machine that does nothing
            else meanwhile.
        fleet: ``auto``, ``on`` or ``off``: whether all runs of a shape train together.
        overrides: fields of the question that replace its own.

    Raises:
        UserError: something to mend, in one sentence; nothing finished is lost.
    """
    console = console or Console(quiet=True)
    with _bench(question, Path(out), console, device, workers, fleet, overrides) as bench:
        return _answered(*bench, time)


def show_plan(
    question: str | Path | Mapping[str, Any] | Spec,
    out: str | Path,
    console: Console | None = None,
    device: str = "auto",
    workers: int | None = None,
    fleet: str = "auto",
    **overrides: Any,
) -> Plan:
    """Plan a design question as :func:`ablate` would, say how long it takes, and train nothing.

    The folder is left free for another question. Arguments and errors are those of :func:`ablate`.
    """
    console = console or Console(quiet=True)
    asked = (question, Path(out), console, device, workers, fleet, overrides)
    with _bench(*asked, keep=False) as (plan, bench, say):
        _show(plan, bench, say)
        return plan


@contextlib.contextmanager
def _bench(
    question: str | Path | Mapping[str, Any] | Spec,
    out: Path,
    console: Console,
    device: str,
    workers: int | None,
    fleet: str,
    overrides: Mapping[str, Any],
    keep: bool = True,
) -> Iterator[tuple[Plan, Bench, Say]]:
    """The plan, what trains its runs, and a way to say things, while the folder is held."""
    spec = read_spec(question, **overrides)
    data = DataConfig(corpus=spec.corpus, split=spec.split)
    device = choose_device(device)
    check_fleet(fleet)
    say = sentences(console)
    corpus = read_corpus(data.corpus, data.split, data.test_file)
    for note in corpus.notes:
        say(f"{corpus.name}: {note}")
    with folder_lock(out):
        where = Where(data, out, settled_precision(out, device), device)
        plan = make_plan(spec, where)
        where = replace(where, fleet=_settled_fleet(out, plan, where, fleet, say, keep))
        if keep:
            _keep(plan, out)
        speed = tokens_per_second(where.precision, device, 1)
        bench = Bench(where, count_workers(workers, device, where.fleet), speed, console)
        with one_thread_if((bench.workers == 0 or where.fleet) and device == "cpu"):
            yield plan, bench, say


def _show(plan: Plan, bench: Bench, say: Say) -> None:
    print_plan(plan, bench.console)
    most = "at most" if bench.where.fleet else "about"  # runs of a fleet are counted one by one
    say(f"{most} {duration(longest(plan, bench))} on this machine if every seed is needed")


def _answered(plan: Plan, bench: Bench, say: Say, time: bool) -> Answer:
    _show(plan, bench, say)
    conditions = environment(bench.where.device, bench.where.precision)
    conditions |= {"fleet": LARGEST} if bench.where.fleet else {}
    rates = bench.rates(plan)
    print_rates(rates, say)
    found = _decided(plan, rates, bench, conditions)
    if plan.spec.multiplier:
        curve = measure_curve(plan, rates, found.runs, bench)
        found = replace(found, curve=curve)
        notes = (*found.notes, *curve.notes, *found.why_no_worth)
        found = replace(found, notes=notes)
        _write(found, bench.where.out)
    for name, sized in plan.scales.items():
        found = replace(found, sizes={**found.sizes, name: _sized(name, sized, bench, say)})
    if plan.scales:
        trends, notes = trends_of(found, len(fixed_seeds(plan.spec)))
        found = replace(found, trends=trends, notes=(*found.notes, *notes))
    if time:
        _write(found, bench.where.out)
        found = replace(found, times=measure_times(plan.every))
    _write(found, bench.where.out)
    print_answer(found, bench.console)
    return found


def _decided(
    plan: Plan, rates: Mapping[str, Rate], bench: Bench, conditions: dict[str, Any]
) -> Answer:
    """Confirm seed by seed until the rule has decided, or all seeds are spent."""
    results: Results = {arm.name: {} for arm in plan.every}
    undecided = [arm.name for arm in plan.arms]
    watch = PairWatch(plan)
    for seeds in looks(plan.spec, len(plan.spec.judged)):
        wanted = [plan.baseline, *(plan.arm(name) for name in undecided)]
        left = plan.spec.seeds - seeds.stop
        watch.later_seconds = left * _seconds(wanted, bench) / max(1, bench.workers)
        lrs = {name: rate.lr for name, rate in rates.items()}
        for name, runs in bench.confirm(wanted, lrs, seeds, "confirmed", watch).items():
            results[name].update(runs)
        _check_baseline(results[plan.baseline.name])
        current = answer(plan, rates, results, conditions)
        undecided = current.undecided
        _write(current, bench.where.out)  # also the last one: what else was asked for takes long
        if current.enough:
            break
        print_state(current, bench.console)
    return current


def _sized(name: str, plan: Plan, bench: Bench, say: Say) -> Sized:
    """The question at another size: rates of its own, and the seeds that the trend needs."""
    say(f"scale {name}: {plan.baseline.parameters:,} parameters, {plan.baseline.flops:.3g} FLOPs")
    bench = replace(bench, size=name)
    rates = bench.rates(plan)
    lrs = {arm: rate.lr for arm, rate in rates.items()}
    seeds = fixed_seeds(plan.spec)
    watch = PairWatch(plan)
    return Sized(plan, rates, bench.confirm(plan.every, lrs, seeds, "scale", watch))


def _write(found: Answer, out: Path) -> None:
    """The answer's files; a picture of it too, once there are verdicts on enough seeds."""
    write_results(found, out)
    write_json(found, out)
    if found.enough:
        write_figure(found, out)


def looks(spec: Spec, arms: int) -> Iterator[range]:
    """Seeds of each look: first as many as can decide at all, then a few at a time; or all."""
    first = spec.seeds if spec.fixed else min(spec.seeds, fewest_pairs(spec.alpha / arms))
    yield range(first)
    for start in range(first, spec.seeds, BLOCK):
        yield range(start, min(start + BLOCK, spec.seeds))


def fixed_seeds(spec: Spec) -> range:
    """Seeds of a trend: those of the first look, which every arm gets whatever it shows."""
    return next(looks(spec, len(spec.judged)))


def _check_baseline(runs: Mapping[int, dict[str, Any]]) -> None:
    if unfit := unfit_seeds(runs):
        raise UserError(
            f"the baseline is {unfit}, so nothing can be held against it: give it more "
            "train_bytes, or choose another baseline"
        )


def longest(plan: Plan, bench: Bench) -> float:
    """Seconds if every seed is needed, and the search for rates takes its usual five points."""
    workers, spec = max(1, bench.workers), plan.spec
    own = tuple(arm for arm in plan.every if not arm.twin)
    tuned = POINTS * spec.tuning_seeds
    seconds = tuned * _seconds(own, bench) + spec.seeds * _seconds(plan.every, bench)
    if spec.multiplier:
        each = SEEDS + (tuned if spec.multiplier == "tuned" else 0)
        seconds += each * _seconds([at(plan.baseline, f) for f in FACTORS], bench)
    for sized in plan.scales.values():
        each = tuned + len(fixed_seeds(spec))
        seconds += each * _seconds(sized.every, bench)
    return seconds / workers


def _seconds(arms: Sequence[Arm], bench: Bench) -> float:
    """Expected of one run of each."""
    return sum(bench.job(arm, 1e-3, 0, "confirmed").expected_seconds for arm in arms)


def settled_precision(out: Path, device: str) -> str:
    """The precision of the folder's runs, chosen once; another would make them other runs."""
    kept = read_kept(out / MACHINE)
    if kept is None:
        precision, _ = choose_precision(device)
        kept = write_kept(out / MACHINE, None, {"precision": precision})
    return kept["precision"]


def _settled_fleet(
    out: Path, plan: Plan, where: Where, wanted: str, say: Callable[[str], None], keep: bool
) -> bool:
    """Whether the folder's runs train in fleets, settled once: all of them or none.

    A verdict pairs runs of different arms, and a run of a fleet is equal to one alone only to
    rounding. So one arm that has to run alone decides for all.

    Raises:
        UserError: the folder's runs were made the other way.
    """
    choice = choose_fleet(wanted, where.device, where.precision)
    reason = first_alone((arm.name, arm.config) for arm in plan.every)
    if choice == "on" and reason:
        say(f"no fleets, as not every arm can be in one ({reason})")
        choice = "off"
    kept = read_kept(out / MACHINE) or {}
    here = kept.get("fleet", "off" if run_folders(out) else None)
    if here is None:
        if keep:  # a plan alone settles nothing
            write_kept(out / MACHINE, None, kept | {"fleet": choice})
        return choice == "on"
    if wanted != "auto" and here != choice:
        raise UserError(
            f"{out} holds runs made with --fleet {here}, and this one has {choice}: choose "
            "another --out folder for it"
        )
    return here == "on"


def _keep(plan: Plan, out: Path) -> None:
    """Write the plan before the first run; a folder keeps to one.

    Raises:
        UserError: the folder belongs to another question.
    """
    found = read_kept(out / PLAN)
    if found is None and run_folders(out):
        raise UserError(
            f"{out} holds runs, but {PLAN} is missing or damaged, so nobody can tell what was "
            "asked: choose another --out folder"
        )
    if found is None:
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        write_kept(out / PLAN, None, {"hash": plan.hash, "written": date, **plan.content})
    elif found["hash"] != plan.hash:
        raise UserError(
            f"{out} holds the answer to another question, or to this one before it was changed: "
            "choose another --out folder, as a plan is not changed after its first run"
        )
