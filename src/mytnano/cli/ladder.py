"""Verbs of the ladder: ladder, explain, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mytnano.cli.shared import (
    Corpus,
    Device,
    Fleet,
    PlanOnly,
    Precision,
    Split,
    TestFile,
    Workers,
    default_folder,
    split_names,
    tell,
    text_of,
)


def ladder(
    budget: Annotated[
        str,
        typer.Option(
            help="smoke (shows that all works), quick, or standard; the plan that is printed first "
            "says how long on this machine."
        ),
    ] = "quick",
    corpus: Corpus = "sotu",
    rungs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID|GROUP",
            help="Rungs or groups (core, as-logged, depth, long, or an extended one, such as "
            "activations or tokenizers: docs/groups.md), several with commas or by repeating; "
            "default: the budget's groups.",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs per rung; default: the budget's.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for runs and results, where a later command continues; "
            "default: out/ladder-BUDGET, and the corpus unless it is sotu."
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    split: Split = "documents",
    test_file: TestFile = None,
    workers: Workers = None,
    fleet: Fleet = "auto",
    tune: Annotated[
        bool,
        typer.Option("--tune", help="First tune what these rungs use: rates, and the vocabulary."),
    ] = False,
    plan: PlanOnly = False,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="ID|GROUP", help="The same as --rungs.")
    ] = None,
) -> None:
    """Train and measure every rung of the log, from a bigram to mytNano, and write the report.

    Stopped or killed, the same command continues; a finished run is never repeated.
    """
    from mytnano.ladder.run import Request, climb
    from mytnano.report.html import write_report
    from mytnano.run_files import RESULTS

    console = Console()
    request = Request(
        budget=budget,
        data=text_of(corpus, split, test_file),
        rungs=split_names([*(rungs or ()), *(more or ())]),
        seeds=seeds,
        out=out or default_folder(budget, corpus),
        device=device,
        precision=precision,
        workers=workers,
        tune=tune,
        fleet=fleet,
        plan_only=plan,
    )
    code = climb(request, console)
    if plan or (code and not (request.out / RESULTS).exists()):  # or there is nothing to show
        raise typer.Exit(code)
    tell(console, f"report: {write_report(request.out)}")
    raise typer.Exit(code)


def explain(
    rung: Annotated[str, typer.Argument(metavar="RUNG", help="A rung, such as swiglu.")],
    out: Annotated[
        Path | None, typer.Option(help="A ladder's folder, to show what was measured.")
    ] = None,
) -> None:
    """What one rung changes and why, what the log claimed, what was measured, and its code."""
    from mytnano.report.explain import explain as explained

    Console().print(explained(rung, out))


def report(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="A ladder's folder.")],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Overwrite a report that shows more runs than this one would."
        ),
    ] = False,
) -> None:
    """Write report.html again from the results in a ladder's folder."""
    from mytnano.report.html import write_report

    console = Console()
    path = write_report(out, force, lambda sentence: tell(console, sentence))
    tell(console, f"report: {path}")
