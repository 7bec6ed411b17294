"""The command line: thin verbs, one sentence for every mistake, exit codes that scripts can use.

0 done; 1 a run failed; 2 something to mend, said in one sentence; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import click
import typer
from rich.console import Console

from mytnano.errors import UserError

app = typer.Typer(
    help="A transformer design lab: every design step of a small language model, trained, measured in bits per byte.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Out = Annotated[
    Path | None, typer.Option(help="Folder for runs and results; a later command there continues.")
]


@app.command()
def ladder(
    budget: Annotated[
        str, typer.Option(help="smoke (1 minute), quick (12), or standard (2 hours, on 2 cores).")
    ] = "quick",
    corpus: Annotated[
        str,
        typer.Option(help="sotu (embedded), a file, a folder, a .jsonl, a .parquet, or hf:NAME."),
    ] = "sotu",
    rungs: Annotated[
        list[str] | None,
        typer.Option(help="Rung ids or groups (core, as-logged, depth, long); repeat for more."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs per rung; default: the budget's.")
    ] = None,
    out: Out = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    split: Annotated[
        str, typer.Option(help="documents (80/10/10 by content) or tail:FRACTION.")
    ] = "documents",
    test_file: Annotated[Path | None, typer.Option(help="A file that is the test text.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; default: one a core.")
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Repeat the learning-rate and vocabulary sweeps first.")
    ] = False,
) -> None:
    """Train and measure every rung of the log, from a bigram to mytNano, and write the report."""
    from mytnano.config import DataConfig
    from mytnano.ladder.run import Request, climb
    from mytnano.report.html import write_report

    console = Console()
    request = Request(
        budget=budget,
        data=DataConfig(
            corpus=corpus, split=split, test_file=str(test_file) if test_file else None
        ),
        rungs=tuple(name for word in rungs or () for name in word.split(",")),
        seeds=seeds,
        out=out or Path("out") / f"ladder-{budget}",
        device=device,
        workers=workers,
        tune=tune,
    )
    code = climb(request, console)
    console.print(f"report: {write_report(request.out)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


@app.command()
def explain(
    rung: Annotated[str, typer.Argument(help="A rung id, such as swiglu.")],
    out: Annotated[
        Path | None, typer.Option(help="A ladder's folder, to show what was measured.")
    ] = None,
) -> None:
    """What one rung changes, why, what the log claimed, what was measured, and the code that it switches on."""
    from mytnano.report.explain import explain as explained

    Console().print(explained(rung, out))


@app.command()
def report(out: Annotated[Path, typer.Argument(help="A ladder's folder.")]) -> None:
    """Write report.html again from a ladder's result files."""
    from mytnano.report.html import write_report

    Console().print(f"report: {write_report(out)}", highlight=False, soft_wrap=True)


@app.command()
def bench(
    nanogpt: Annotated[
        Path | None, typer.Option(help="A nanoGPT checkout to race against.")
    ] = None,
    shapes: Annotated[str, typer.Option(help="Shapes among B, C and D.")] = "B,C,D",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every contestant.")] = 2,
    out: Annotated[Path, typer.Option(help="Result file.")] = Path("out/bench.json"),
) -> None:
    """Full optimizer steps in tokens/s, interleaved with nanoGPT and Hugging Face Llama."""
    from mytnano.bench import run_bench

    run_bench(nanogpt, shapes.split(","), rounds, out, threads)


def main() -> None:
    """Entry point: turns what the user can mend into a sentence and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        print(f"mytnano: {error}", file=sys.stderr)
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        from mytnano.runs.jobs import STOPPED

        print(f"\n{STOPPED}", file=sys.stderr)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
