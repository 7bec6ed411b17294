"""``mytnano ladder``: plan, train, measure, report."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mytnano.config import DataConfig
from mytnano.designs.budgets import BUDGETS, Budget
from mytnano.designs.rungs import RUNGS, Rung, select
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.ladder import attention_cost
from mytnano.ladder.cells import Where, cell, job, work
from mytnano.ladder.closed_form import baselines
from mytnano.ladder.environment import environment
from mytnano.ladder.results import collect, write_results
from mytnano.ladder.sweep import Sweep, sweep_into, swept
from mytnano.runs.index import Index
from mytnano.runs.jobs import Job
from mytnano.runs.lock import folder_lock
from mytnano.runs.progress import duration, progress_display
from mytnano.runs.runner import run_jobs
from mytnano.training.precision import choose_precision
from mytnano.training.text import read_corpus


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        budget: a name in :data:`~mytnano.designs.budgets.BUDGETS`.
        rungs: ids or groups; empty for the budget's own groups.
        seeds: runs per rung; None for the budget's own number.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        workers: processes; None for one a core on a CPU, and none beside a GPU.
        tune: repeat the sweeps on this corpus at this budget first, and use what they find.
    """

    budget: str = "quick"
    data: DataConfig = DataConfig()
    rungs: tuple[str, ...] = ()
    seeds: int | None = None
    out: Path = Path("out/ladder")
    device: str = "auto"
    workers: int | None = None
    tune: bool = False


def climb(request: Request, console: Console) -> int:
    """Run the ladder and write its results; return the exit code.

    Raises:
        UserError: something that the user can mend; nothing finished is lost.
        KeyboardInterrupt: Ctrl-C; the same command continues.
    """
    budget = known_budget(request.budget)
    device = choose_device(request.device)
    rungs = select(list(request.rungs) or list(budget.groups))
    with folder_lock(request.out):
        corpus = read_corpus(request.data.corpus, request.data.split, request.data.test_file)
        for note in corpus.notes:
            console.print(f"{corpus.name}: {note}", highlight=False, soft_wrap=True)
        precision, speeds = choose_precision(device)
        console.print(
            f"{device}: {precision} ({speeds['fp32']:,.0f} tokens/s in fp32, {speeds['bf16']:,.0f} in bf16)",
            highlight=False,
        )
        where = Where(request.data, request.out, precision, device)
        workers = count_workers(request.workers, device)
        if request.tune:
            sweep = Sweep(where, budget, workers, speeds[precision], console)
            sweep_into(sweep, environment(device, precision))
        where = swept(where)
        groups = plan(rungs, budget, request.seeds, where, speeds[precision])
        announce(groups, budget, workers, console)
        with progress_display(groups, max(1, workers), console) as display:
            summary = run_jobs(groups, work, workers, 1, display)
        with console.status("closed-form baselines"):
            known = baselines(where, budget)
        with console.status("attention cost"):
            record_attention(where, budget)
        index = Index(request.out)
        index.rows()
        rows = collect([event.job.folder for event in summary.finished], request.out)
        write_results(rows, where, budget, environment(device, precision))
    print_table(rows, known, console)
    for failed in summary.failed:
        console.print(failed.sentence, style="red", soft_wrap=True)
    return summary.exit_code


def known_budget(name: str) -> Budget:
    """The budget of that name; raises UserError for any other."""
    if name not in BUDGETS:
        raise UserError(f"'{name}' is not a budget; there are {', '.join(BUDGETS)}")
    return BUDGETS[name]


def choose_device(wanted: str) -> str:
    """``auto`` is the first accelerator at hand; raises UserError for one that is not."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(name for name, there in available.items() if there)
    if wanted not in available:
        raise UserError(f"'{wanted}' is not a device; there are auto, {', '.join(available)}")
    if not available[wanted]:
        raise UserError(
            f"this machine has no {wanted} device that PyTorch can use; try --device cpu"
        )
    return wanted


def count_workers(wanted: int | None, device: str) -> int:
    """One process a core with one thread each, as two threads on small matrices lose; on a GPU this process does it all."""
    if wanted is not None:
        return wanted
    return (
        (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        if device == "cpu"
        else 0
    )


def plan(
    rungs: list[Rung], budget: Budget, seeds: int | None, where: Where, speed: float
) -> list[list[Job]]:
    """One group of jobs per rung: its seeds."""
    groups = []
    for rung in rungs:
        count = seeds or (budget.seeds if rung.group == "core" else budget.other_seeds)
        groups.append(
            [job(rung, cell(rung, budget, seed, where), where, speed) for seed in range(count)]
        )
    return groups


def announce(groups: list[list[Job]], budget: Budget, workers: int, console: Console) -> None:
    """The plan, before the first step."""
    jobs = [job for group in groups for job in group]
    seconds = sum(job.expected_seconds for job in jobs) / max(1, workers)
    console.print(
        f"budget {budget.name}: {len(groups)} rungs, {len(jobs)} runs of {budget.train_bytes / 2**20:g} MiB on "
        f"{max(1, workers)} worker{'s' if workers > 1 else ''}; about {duration(seconds)} on this machine",
        highlight=False,
        soft_wrap=True,
    )


def record_attention(where: Where, budget: Budget) -> None:
    """Measure attention's cost once an output folder; shorter for budgets whose results are not comparable anyway."""
    path = where.out / "attention.json"
    if path.exists():
        return
    lengths = attention_cost.LENGTHS if budget.test_bytes == 0 else attention_cost.LENGTHS[:3]
    atomic_write_json(
        path,
        attention_cost.measure(where.device, lengths)
        | {"environment": environment(where.device, "fp32")},
    )


def print_table(rows: list[dict], known: dict, console: Console) -> None:
    """The ladder in bits per byte, beside the closed forms fitted on the whole training split."""
    table = Table(title="Bits per byte of test text, lower is better", title_justify="left", box=SIMPLE_HEAD)
    for name in ("rung", "vocabulary", "parameters", "BPB", "seeds", "status"):
        right = name in ("vocabulary", "parameters", "BPB", "seeds")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in known["full"]:
        table.add_row(row["name"], "", "", f"{row['bpb']:.3f}", "", "closed form", style="dim")
    by_rung: dict[str, list[dict]] = {}
    for row in rows:
        if RUNGS[row["rung"]].group != "depth":
            by_rung.setdefault(row["rung"], []).append(row)
    for id, runs in by_rung.items():
        scores = [r["test_bpb"] for r in runs if r["test_bpb"] is not None]
        table.add_row(
            id,
            f"{runs[0]['vocab_size']:,}",
            f"{runs[0]['params']:,}",
            f"{sum(scores) / len(scores):.3f}" if scores else "-",
            f"{min(scores):.3f}..{max(scores):.3f}" if len(scores) > 1 else "",
            ", ".join(sorted({r["status"] for r in runs})),
        )
    console.print(table)
