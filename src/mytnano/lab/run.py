"""``mytnano ablate``: plan, tune, confirm seed by seed until the rule decides, say the answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from mytnano.config import DataConfig, RunConfig
from mytnano.errors import UserError
from mytnano.files import MANIFEST, atomic_write_json, atomic_write_text
from mytnano.kept import read_kept
from mytnano.lab.answer import Answer, Sized, answer, unfit_seeds, write_results
from mytnano.lab.cells import Results, Runner, each_with, runner_at
from mytnano.lab.curve import FACTORS, SEEDS, at, measure_curve
from mytnano.lab.document import as_json
from mytnano.lab.figure import FILE as FIGURE
from mytnano.lab.figure import answer_figure
from mytnano.lab.folder import (
    ANSWER,
    conditions,
    environments,
    keep_plan,
    settled_device,
    settled_fleet,
    settled_precision,
    stored_answer,
)
from mytnano.lab.live import PairWatch
from mytnano.lab.plan import Arm, Plan, make_plan
from mytnano.lab.show import passes_note, print_answer, print_plan, print_rates, print_state
from mytnano.lab.spec import Spec, read_spec
from mytnano.lab.steptime import Times, measure_times
from mytnano.lab.trends import trends_of
from mytnano.lab.tuning import Rate
from mytnano.ladder.cells import Where
from mytnano.ladder.estimate import run_seconds
from mytnano.ladder.fleets import check_fleet
from mytnano.run_files import CONFIG, PLAN
from mytnano.runs.lock import folder_lock
from mytnano.runs.store import run_folders
from mytnano.stats.eprocess import fewest_pairs
from mytnano.svg import standalone
from mytnano.terminal import sentences
from mytnano.text.readers import check_apart
from mytnano.training.text import read_corpus
from mytnano.words import duration

Say = Callable[[str], None]

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
            else meanwhile. Times that an earlier call measured are kept.
        fleet: ``auto``, ``on`` or ``off``: whether all runs of a shape train together.
        overrides: fields of the question that replace its own.

    Raises:
        UserError: something to fix, in one sentence; nothing finished is lost.
        RunFailed: a run failed.
    """
    console = console or Console(quiet=True)
    with _runner(question, Path(out), console, device, workers, fleet, overrides, True) as asked:
        return _answered(*asked, time)


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
    with _runner(question, Path(out), console, device, workers, fleet, overrides, False) as asked:
        _show(*asked)
        return asked[0]


@contextlib.contextmanager
def _runner(
    question: str | Path | Mapping[str, Any] | Spec,
    out: Path,
    console: Console,
    device: str,
    workers: int | None,
    fleet: str,
    overrides: Mapping[str, Any],
    keep: bool,
) -> Iterator[tuple[Plan, Runner, Say]]:
    """The plan, what trains its runs, and a way to say things, while the folder is held."""
    spec = read_spec(question, **overrides)
    data = DataConfig(corpus=spec.corpus, split=spec.split)
    device = settled_device(out, device)
    check_fleet(fleet)
    check_apart(data.corpus, out)
    say = sentences(console)
    corpus = read_corpus(data.corpus, data.split, data.test_file)
    for note in corpus.notes:
        say(f"{corpus.name}: {note}")
    with folder_lock(out):
        where = Where(data, out, settled_precision(out, device, keep), device)
        plan = make_plan(spec, where)
        where = replace(where, fleet=settled_fleet(out, plan, where, fleet, say, keep))
        if keep:
            keep_plan(plan, out, device)
        with runner_at(where, workers, console) as runner:
            yield plan, runner, say


def _show(plan: Plan, runner: Runner, say: Say) -> None:
    print_plan(plan, runner.where.train_bytes, runner.console)
    most = "at most" if runner.where.fleet else "about"  # runs of a fleet are counted one by one
    kept = read_kept(runner.where.out / PLAN) or {}
    # The folder may hold the runs of another question, which the run itself refuses.
    count, done = _finished(runner) if kept.get("hash") == plan.hash else (0, 0.0)
    left = max(0.0, longest(plan, runner) - done)
    beside = f", beside the {count} runs that are finished" if count else ""
    say(f"{most} {duration(left)} on this machine if every seed is needed{beside}")


def _answered(plan: Plan, runner: Runner, say: Say, time: bool) -> Answer:
    _show(plan, runner, say)
    out, stored = runner.where.out, stored_answer(runner.where.out, plan.hash)
    rates = runner.rates(plan)
    print_rates(rates, say)
    found = _decided(plan, rates, runner, stored)
    if note := passes_note(plan, runner.where.train_bytes):
        found = replace(found, notes=(*found.notes, note))
    if plan.spec.multiplier:
        curve = measure_curve(plan, rates, found.runs, runner)
        found = replace(found, curve=curve)
        notes = (*found.notes, *curve.notes, *found.why_no_worth)
        found = replace(found, notes=notes)
        if runner.trained or not stored.get("final"):
            _write(found, out)
    for name, sized in plan.scales.items():
        found = replace(found, sizes={**found.sizes, name: _at_size(name, sized, runner, say)})
    if plan.scales:
        trends, notes = trends_of(found, len(fixed_seeds(plan.spec)))
        found = replace(found, trends=trends, notes=(*found.notes, *notes))
    if time:
        _write(found, out)
        found = replace(found, times=measure_times(plan.every))
    found = replace(found, environments=_environments(runner))
    _write(found, out)
    print_answer(found, runner.console)
    return found


def _decided(
    plan: Plan, rates: Mapping[str, Rate], runner: Runner, stored: Mapping[str, Any]
) -> Answer:
    """Confirm seed by seed until the rule has decided, or all seeds are spent.

    An arm that is decided gets no more seeds. By Holm's procedure the level of one arm depends on
    the others, so in rare cases it becomes undecided again: then it is given the seeds that it has
    missed. Its pairs are then those of the first seeds without a gap, and the Bayes factor may be
    continued after any stop, so the error rates hold. (A verdict that stays once it was given would
    hold them too, but ``mytnano verdict`` on ``results.csv`` would not give it.)

    Args:
        stored: the answer of an earlier call, which is not overwritten with an earlier state.
    """
    results: Results = {arm.name: {} for arm in plan.every}
    undecided = [arm.name for arm in plan.arms]
    watch = PairWatch(plan)
    lrs = {name: rate.lr for name, rate in rates.items()}
    for seeds in looks(plan.spec, len(plan.spec.judged)):
        arms = [plan.baseline, *(plan.arm(name) for name in undecided)]
        left = plan.spec.seeds - seeds.stop
        watch.later_seconds = left * _seconds(arms, runner) / max(1, runner.workers)
        wanted = [
            (arm, seed)
            for arm, seed in each_with(arms, range(seeds.stop))
            if seed not in results[arm.name]
        ]
        made = len(runner.trained)
        for name, runs in runner.confirm(wanted, lrs, "confirmed", watch).items():
            results[name].update(runs)
        _check_baseline(results[plan.baseline.name])
        current = answer(plan, rates, results, _environments(runner), _times(stored))
        undecided = current.undecided
        if len(runner.trained) > made or (current.enough and not stored.get("final")):
            _write(current, runner.where.out)  # as what else was asked for takes long
        if current.enough:
            break
        print_state(current, runner.console)
    return current


def _environments(runner: Runner) -> tuple[dict[str, Any], ...]:
    return tuple(environments(runner.where.out) or [conditions(runner.where)])


def _times(stored: Mapping[str, Any]) -> Times | None:
    """The step times of an earlier answer to the same plan."""
    kept = stored.get("times")
    return Times(kept["seconds"], kept["steps"], kept["busy"]) if kept else None


def _at_size(name: str, plan: Plan, runner: Runner, say: Say) -> Sized:
    """The question at another size: rates of its own, and the seeds that the trend needs."""
    say(f"scale {name}: {plan.baseline.parameters:,} parameters, {plan.baseline.flops:.3g} FLOPs")
    runner = replace(runner, size=name)
    rates = runner.rates(plan)
    print_rates(rates, say)
    lrs = {arm: rate.lr for arm, rate in rates.items()}
    seeds = fixed_seeds(plan.spec)
    watch = PairWatch(plan, len(seeds))
    return Sized(plan, rates, runner.confirm(each_with(plan.every, seeds), lrs, "scale", watch))


def _write(found: Answer, out: Path) -> None:
    """The answer's files; a picture of it too, once there are verdicts on enough seeds."""
    write_results(found, out)
    atomic_write_json(out / ANSWER, as_json(found))
    if found.enough:
        atomic_write_text(out / FIGURE, standalone(str(answer_figure(found))))


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


def longest(plan: Plan, runner: Runner) -> float:
    """Seconds if every seed is needed, and the search for rates takes its usual five points."""
    workers, spec = max(1, runner.workers), plan.spec
    own = tuple(arm for arm in plan.every if not arm.twin)
    tuned = POINTS * spec.tuning_seeds
    seconds = tuned * _seconds(own, runner) + spec.seeds * _seconds(plan.every, runner)
    if spec.multiplier:
        each = SEEDS + (tuned if spec.multiplier == "tuned" else 0)
        seconds += each * _seconds([at(plan.baseline, f) for f in FACTORS], runner)
    for sized in plan.scales.values():
        each = tuned + len(fixed_seeds(spec))
        seconds += each * _seconds(sized.every, runner)
    return seconds / workers


def _finished(runner: Runner) -> tuple[int, float]:
    """How many runs the folder holds, and the seconds that :func:`longest` counts for them."""
    count, seconds = 0, 0.0
    for folder in run_folders(runner.where.out):
        if not (folder / MANIFEST).exists():
            continue
        with contextlib.suppress(OSError, ValueError):  # of a damaged one, which is made again
            config = RunConfig.model_validate_json((folder / CONFIG).read_bytes())
            seconds += run_seconds(config, runner.where.corpus, runner.speed)
            count += 1
    return count, seconds / max(1, runner.workers)


def _seconds(arms: Sequence[Arm], runner: Runner) -> float:
    """Expected of one run of each."""
    return sum(runner.job(arm, 1e-3, 0, "confirmed").expected_seconds for arm in arms)
