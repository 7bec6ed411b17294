"""The verb bench: races against other trainers, and against ourselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mytnano.cli.shared import refuse_beside, split_names
from mytnano.errors import UserError


def bench(
    context: typer.Context,
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
    from mytnano.bench.compare import run_bench
    from mytnano.bench.decode import run_decode_bench
    from mytnano.bench.fleet import parse_sizes, run_fleet_bench
    from mytnano.bench.quality import run_quality_bench
    from mytnano.bench.tokenizer_speed import run_tokenizer_bench

    modes = {"--tokenizers": tokenizers, "--quality": quality, "--decode": decode, "--fleet": fleet}
    chosen = [name for name, given in modes.items() if given]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} are different races: give one of them")
    uses = {
        "--tokenizers": ("tokenizers",),
        "--quality": ("quality", "nanogpt"),
        "--decode": ("decode", "threads"),
        "--fleet": ("fleet", "shapes", "threads", "device"),
        "a race of steps": ("nanogpt", "shapes", "threads"),
    }
    mode = chosen[0] if chosen else "a race of steps"
    refuse_beside(context, mode, "rounds", "out", *uses[mode])
    if tokenizers:
        run_tokenizer_bench(rounds, out or Path("out/bench-tokenizers.json"))
        return
    if quality is not None:
        run_quality_bench(quality, nanogpt, rounds, out or Path("out/bench-quality.json"))
        return
    if decode is not None:
        run_decode_bench(decode, rounds, out or Path("out/bench-decode.json"), threads)
        return
    if fleet is not None:
        names = list(split_names([shapes]))
        file = out or Path("out/bench-fleet.json")
        run_fleet_bench(parse_sizes(fleet), names, rounds, file, device, threads)
        return
    file = out or Path("out/bench.json")
    run_bench(nanogpt, list(split_names([shapes])), rounds, file, threads)
