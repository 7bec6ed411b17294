"""``mytnano ablate``: plan, tune, confirm seed by seed until the rule decides, say the answer."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from mytnano.config import DataConfig
from mytnano.errors import UserError
from mytnano.lab.answer import Answer, answer, write_answer
from mytnano.lab.plan import Arm, Plan, make_plan
from mytnano.lab.show import print_answer, print_plan, print_state
from mytnano.lab.spec import Spec, read_spec
from mytnano.lab.tuning import Key, Rate, grid_rate, tune_rates
from mytnano.ladder.cells import Where, labelled_job, work
from mytnano.ladder.environment import choose_device, count_workers, environment
from mytnano.ladder.fleets import check_fleet, choose_fleet, first_alone, run_jobs
from mytnano.ladder.kept import read_kept, write_kept
from mytnano.ladder.run import one_thread_if, sentences
from mytnano.runs.jobs import Job
from mytnano.runs.lock import folder_lock
from mytnano.runs.progress import duration, progress_display
from mytnano.runs.store import run_folders
from mytnano.stats.eprocess import fewest_pairs
from mytnano.training.fleet_size import LARGEST
from mytnano.training.precision import choose_precision, tokens_per_second
from mytnano.training.text import read_corpus

PLAN = "plan.json"
MACHINE = "machine.json"
BLOCK = 4
"""Seeds between two looks after the first one: new worker processes take some seconds to start."""


@dataclass(frozen=True)
class Bench:
    """What all runs of a question share.

    ``speed`` is the machine's tokens/s on :data:`~mytnano.training.precision.PROBE`.
    """

    where: Where
    workers: int
    speed: float
    console: Console

    def train(self, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
        """Job name -> result; finished runs are not repeated.

        Raises:
            UserError: a run failed; what was finished stays.
        """
        groups = [[job] for job in jobs]
        with progress_display(groups, max(1, self.workers), self.console) as show:
            summary = run_jobs(groups, work, self.workers, 1, show)
        if summary.failed:
            raise UserError(f"{summary.failed[0].sentence}; without it nothing can be answered")
        return summary.results

    def job(self, arm: Arm, lr: float, seed: int, group: str) -> Job:
        """A run of an arm; those of the group ``tuning`` score no test text."""
        config = arm.config.but(
            optim={"lr": lr},
            train={"seed": seed, "score_test": group != "tuning", "fleet": self.where.fleet},
        )
        name = f"{arm.name}-lr{lr:g}-s{seed}" if group == "tuning" else f"{arm.name}-s{seed}"
        return labelled_job(
            name, config, self.where, self.speed, {"rung": arm.name, "group": group}
        )


def ablate(
    question: str | Path | Mapping[str, Any] | Spec,
    out: str | Path,
    console: Console | None = None,
    device: str = "auto",
    workers: int | None = None,
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
        fleet: ``auto``, ``on`` or ``off``: whether all runs of a shape train together.
        overrides: fields of the question that replace its own.

    Raises:
        UserError: something to mend, in one sentence; nothing finished is lost.
    """
    out, console = Path(out), console or Console(quiet=True)
    spec = read_spec(question, **overrides)
    data = DataConfig(corpus=spec.corpus, split=spec.split)
    device = choose_device(device)
    check_fleet(fleet)
    say = sentences(console)
    corpus = read_corpus(data.corpus, data.split, data.test_file)
    for note in corpus.notes:
        say(f"{corpus.name}: {note}")
    with folder_lock(out):
        where = Where(data, out, _settled_precision(out, device), device)
        plan = make_plan(spec, where)
        where = replace(where, fleet=_settled_fleet(out, plan, where, fleet, say))
        _keep(plan, out)
        speed = tokens_per_second(where.precision, device, 1)
        bench = Bench(where, count_workers(workers, device, where.fleet), speed, console)
        with one_thread_if((bench.workers == 0 or where.fleet) and device == "cpu"):
            return _answered(plan, bench, say)


def _answered(plan: Plan, bench: Bench, say: Callable[[str], None]) -> Answer:
    print_plan(plan, bench.console)
    say(f"about {duration(_longest(plan, bench))} on this machine if every seed is needed")
    conditions = environment(bench.where.device, bench.where.precision)
    conditions |= {"fleet": LARGEST} if bench.where.fleet else {}
    rates = _rates(plan, bench)
    results: dict[str, dict[int, dict[str, Any]]] = {arm.name: {} for arm in plan.every}
    undecided = [arm.name for arm in plan.arms]
    for seeds in looks(plan.spec, len(plan.arms)):
        wanted = [plan.baseline.name, *undecided]
        jobs = {
            (name, seed): bench.job(plan.arm(name), rates[name].lr, seed, "confirmed")
            for seed in seeds
            for name in wanted
        }
        found = bench.train(list(jobs.values()))
        for (name, seed), job in jobs.items():
            results[name][seed] = found[job.name]
        _check_baseline(results[plan.baseline.name])
        current = answer(plan, rates, results, conditions)
        undecided = [v.name for v in current.verdicts if v.verdict == "unresolved"]
        write_answer(current, bench.where.out)
        if not undecided or len(results[plan.baseline.name]) == plan.spec.seeds:
            break
        print_state(current, bench.console)
    print_answer(current, bench.console)
    return current


def looks(spec: Spec, arms: int) -> Iterator[range]:
    """Seeds of each look: first as many as can decide at all, then a few at a time."""
    first = min(spec.seeds, fewest_pairs(spec.alpha / arms))
    yield range(first)
    for start in range(first, spec.seeds, BLOCK):
        yield range(start, min(start + BLOCK, spec.seeds))


def _rates(plan: Plan, bench: Bench) -> dict[str, Rate]:
    """Every arm's own rate; a twin has the baseline's, or it would not be one."""

    def measure(keys: list[Key]) -> dict[Key, float]:
        jobs = {
            (name, e, seed): bench.job(plan.arm(name), grid_rate(e), seed, "tuning")
            for name, e, seed in keys
        }
        results = bench.train(list(jobs.values()))
        scores = {key: results[job.name]["validation_bpb"] for key, job in jobs.items()}
        return {key: math.inf if bpb is None else bpb for key, bpb in scores.items()}

    own = tuple(arm for arm in plan.every if not arm.twin)
    rates = tune_rates(own, plan.spec.tuning_seeds, plan.spec.margin, measure)
    return rates | {arm.name: rates[plan.baseline.name] for arm in plan.arms if arm.twin}


def _check_baseline(runs: Mapping[int, dict[str, Any]]) -> None:
    for seed, result in runs.items():
        if result["status"] != "healthy":
            raise UserError(
                f"the baseline is {result['status']} with seed {seed}, so nothing can be held "
                "against it: give it more train_bytes, or choose another baseline"
            )


def _longest(plan: Plan, bench: Bench) -> float:
    """Seconds if every seed is needed, and the search for rates takes its usual five points."""
    seconds = 0.0
    for arm in plan.every:
        tuned = 0 if arm.twin else 5 * plan.spec.tuning_seeds
        one = bench.job(arm, 1e-3, 0, "confirmed").expected_seconds
        seconds += one * (tuned + plan.spec.seeds)
    return seconds / max(1, bench.workers)


def _settled_precision(out: Path, device: str) -> str:
    """The precision of the folder's runs, chosen once; another would make them other runs."""
    kept = read_kept(out / MACHINE)
    if kept is None:
        precision, _ = choose_precision(device)
        kept = write_kept(out / MACHINE, None, {"precision": precision})
    return kept["precision"]


def _settled_fleet(
    out: Path, plan: Plan, where: Where, wanted: str, say: Callable[[str], None]
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
