"""Verbs of the ladder: ladder, explain, report, bench."""

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
    from mytnano.config import DataConfig
    from mytnano.ladder.run import Request, climb
    from mytnano.report.html import write_report

    console = Console()
    request = Request(
        budget=budget,
        data=DataConfig(
            corpus=corpus, split=split, test_file=str(test_file) if test_file else None
        ),
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
    if plan:
        raise typer.Exit(code)
    tell(console, f"report: {write_report(request.out)}")
    raise typer.Exit(code)


def explain(
    rung: Annotated[str, typer.Argument(help="A rung, such as swiglu.")],
    out: Annotated[
        Path | None, typer.Option(help="A ladder's folder, to show what was measured.")
    ] = None,
) -> None:
    """What one rung changes and why, what the log claimed, what was measured, and its code."""
    from mytnano.report.explain import explain as explained

    Console().print(explained(rung, out))


def report(
    out: Annotated[Path, typer.Argument(help="A ladder's folder.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also over a page that shows more than this one would.")
    ] = False,
) -> None:
    """Write report.html again from the results in a ladder's folder."""
    from mytnano.report.html import write_report

    console = Console()
    path = write_report(out, force, lambda sentence: tell(console, sentence))
    tell(console, f"report: {path}")


def bench(
    nanogpt: Annotated[
        Path | None, typer.Option(help="A nanoGPT checkout to race against.")
    ] = None,
    shapes: Annotated[str, typer.Option(help="Shapes among B, C and D.")] = "B,C,D",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 5,
    threads: Annotated[
        int,
        typer.Option(
            min=1, help="Threads of each contestant; --quality and --tokenizers use every core."
        ),
    ] = 2,
    out: Annotated[
        Path | None,
        typer.Option(help="Result file; default: out/bench.json, bench-fleet, and so on."),
    ] = None,
    fleet: Annotated[
        str | None,
        typer.Option(
            metavar="K,...", help="Race fleets of so many models against runs alone instead."
        ),
    ] = None,
    decode: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Continue text with a run, against transformers, instead."
        ),
    ] = None,
    quality: Annotated[
        Path | None,
        typer.Option(metavar="TEXT", help="Race nanoGPT to a score on a text file instead."),
    ] = None,
    tokenizers: Annotated[
        bool, typer.Option("--tokenizers", help="Train and encode vocabularies instead.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="Device for --fleet: auto, cpu, cuda or mps.")
    ] = "auto",
) -> None:
    """Full optimizer steps in tokens/s, interleaved with nanoGPT and Hugging Face Llama.

    With --fleet, many models trained as one program beside one alone; there is a shape A as well.
    With --decode, tokens that a run writes with its cache, beside transformers.generate.
    With --quality, bits per byte after a minute of training, beside nanoGPT's README run.
    With --tokenizers, MB/s of training and encoding.
    """
    from mytnano.bench import run_bench, run_decode_bench, run_fleet_bench, run_quality_bench

    if tokenizers:
        from mytnano.bench.tokenizer_speed import run_tokenizer_bench

        run_tokenizer_bench(rounds, out or Path("out/bench-tokenizers.json"))
        return
    if quality is not None:
        run_quality_bench(quality, nanogpt, rounds, out or Path("out/bench-quality.json"))
        return
    if decode is not None:
        run_decode_bench(decode, rounds, out or Path("out/bench-decode.json"), threads)
        return
    if fleet is not None:
        from mytnano.bench.fleet import parse_sizes

        names = list(split_names([shapes]))
        file = out or Path("out/bench-fleet.json")
        run_fleet_bench(parse_sizes(fleet), names, rounds, file, device, threads)
        return
    file = out or Path("out/bench.json")
    run_bench(nanogpt, list(split_names([shapes])), rounds, file, threads)
