"""Verbs of the lab: ablate, claims, verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mytnano.cli.shared import (
    Device,
    Fleet,
    PlanOnly,
    Workers,
    refuse_beside,
    split_names,
    tell,
)
from mytnano.errors import UserError


def ablate(
    context: typer.Context,
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="QUESTION", help="A YAML file or a built-in question; none lists those."
        ),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE", help="Replace fields of it, such as seeds=40."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for runs and answer; default: out/ablate-QUESTION."),
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
    fleet: Fleet = "auto",
    time: Annotated[
        bool,
        typer.Option("--time", help="Time a step of each design too; only on an idle machine."),
    ] = False,
    plan: PlanOnly = False,
    show: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Print the answer in a folder; train nothing."),
    ] = None,
) -> None:
    """Answer a design question: better, worse, equivalent or unresolved, with an interval.

    Rates are tuned per arm, seeds are paired, and the rule looks after every few seeds until it can
    decide. Stopped or killed, the same command continues. docs/lab.md says how to ask.
    """
    from mytnano.lab import ablate as answered
    from mytnano.lab import show_plan
    from mytnano.lab.spec import builtin_names, overrides, read_spec

    console = Console()
    if show is not None:
        refuse_beside(context, "--show", "show")
        from mytnano.lab.show import print_stored

        print_stored(show, console)
        return
    if question is None:
        refuse_beside(context, "the list of questions")
        for name in builtin_names():
            tell(console, f"{name}: {read_spec(name).question}")
        return
    folder = out or Path("out") / f"ablate-{Path(question).stem}"
    spec = read_spec(question, **overrides(fields or []))
    if plan:
        if time:
            raise UserError("--plan trains nothing that --time could time: leave one out")
        show_plan(spec, folder, console, device, workers, fleet)
        return
    answered(spec, folder, console, device, workers, time, fleet)
    tell(console, f"written to {folder}: answer.json, results.csv, answer.svg")


def claims(
    first: Annotated[
        str | None,
        typer.Argument(metavar="run", help="Repeat the runs that the claims rest on."),
    ] = None,
    others: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLAIM", help="Claims such as C13; none lists all."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Everything that is known, as JSON.")
    ] = False,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder with your own evidence; it takes precedence over the shipped evidence."
        ),
    ] = Path("out/claims"),
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """The 56 claims of the log: what decides each, its verdict, and whether we predicted it.

    `mytnano claims run C13` repeats the runs that a claim rests on.
    """
    from mytnano.claims.command import give_claims

    words = (first, *(others or ())) if first is not None else ()
    give_claims(words, json, out, device, workers, Console())


def verdict(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="CSV file with columns arm, seed and metric.")
    ],
    baseline: Annotated[
        str | None, typer.Option(help="Arm to compare with; default: 'baseline', or the first.")
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="Arms to judge, with commas; default: all others.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Column of the metric.")] = "metric",
    arm: Annotated[str, typer.Option(help="Column that names the arm.")] = "arm",
    seed: Annotated[str, typer.Option(help="Column with the seed.")] = "seed",
    margin: Annotated[
        float,
        typer.Option(help="Largest difference, in percent of the baseline, that you would ignore."),
    ] = 0.3,
    alpha: Annotated[float, typer.Option(help="Highest chance of a false verdict.")] = 0.01,
    higher_is_better: Annotated[
        bool, typer.Option("--higher-is-better", help="For metrics such as accuracy.")
    ] = False,
    fixed: Annotated[
        bool,
        typer.Option("--fixed", help="Paired t-test; the number of seeds was fixed before."),
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write all results to this JSON file.")] = None,
) -> None:
    """Judge the runs of any trainer: better, worse, equivalent, identical or unresolved.

    Optional columns: lr, flops, status, stopped. docs/verdicts.md says what each verdict means.
    """
    from mytnano.stats import Rule
    from mytnano.verdicts.command import Request, give_verdicts

    rule = Rule(alpha=alpha, margin=margin, higher_is_better=higher_is_better, fixed=fixed)
    arms = split_names(compare or [])
    give_verdicts(Request(results, rule, baseline, arms, metric, arm, seed, json), Console())
