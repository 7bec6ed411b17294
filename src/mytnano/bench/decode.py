"""``mytnano bench --decode RUN``: tokens written per second, beside ``transformers.generate``.

Both write greedily from the same prompts with the same weights: ours from the run, theirs from its
export. Contestants alternate strictly, in one process, with the same number of threads; a ratio is
the median of the ratios within a round. Reading the prompts is part of the time.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mytnano.environment import environment
from mytnano.errors import needs
from mytnano.files import atomic_write_json
from mytnano.inference.generate import generate
from mytnano.inference.load import load_run
from mytnano.interop.architectures import find_target
from mytnano.interop.huggingface import export_huggingface
from mytnano.measure.turns import in_turns

BATCHES = (1, 8)
"""Prompts that are continued at a time."""

PROMPT_SHARE = 4
"""The prompt fills one part in so many of the window, and the new tokens the rest."""

MOST_NEW = 256
BURST_SECONDS = 2.0
"""Of one contestant in one round, at least one whole text."""

OURS, NAIVE, THEIRS = "mytNano", "mytNano, no cache", "transformers"

Writer = Callable[[], list[list[int]]]
"""Writes one batch and returns its new ids."""


def run_decode_bench(path: Path, rounds: int, out: Path, threads: int) -> dict:
    """Race both ways to continue text; print a table and write everything to ``out``.

    Raises:
        UserError: no such run, one that is no standard architecture or has no cache, or
            ``transformers`` is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise needs("--decode", "transformers", "hf")
    console = Console()
    run = load_run(path)
    target = find_target(run.config.model)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            peer = load_peer(run, Path(folder) / "export")
        result = {
            "environment": environment("cpu", "fp32"),
            "transformers": importlib.metadata.version("transformers"),
            "architecture": target.class_name,
            "run": run.name,
            "config_hash": run.config.hash,
            "model": run.config.model.model_dump(),
            "threads": threads,
            "rounds": rounds,
            "batches": [],
        }
        for rows in BATCHES:
            with console.status(f"{rows} prompts at a time"):
                result["batches"].append(race(run, peer, rows, rounds))
    finally:
        torch.set_num_threads(before)
    atomic_write_json(out, result)
    console.print(table(result))
    console.print(f"written to {out}", highlight=False, soft_wrap=True)
    return result


def load_peer(run, folder: Path):
    """The exported model in ``transformers``, which never ends a text early."""
    from transformers import AutoModelForCausalLM

    export_huggingface(run, folder)
    peer = AutoModelForCausalLM.from_pretrained(folder).eval()
    peer.generation_config.eos_token_id = None
    return peer


def race(run, peer, rows: int, rounds: int) -> dict:
    """Time every contestant in every round, on the same prompts.

    ``equal`` is the share of rows whose text is the same for ours and theirs to the last token:
    below one only where two tokens are equally likely to rounding.
    """
    model, vocabulary = run.model, run.tokenizer.vocab_size
    context = model.config.context
    prompt = max(1, context // PROMPT_SHARE)
    new = max(1, min(MOST_NEW, context - prompt))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (rows, prompt), generator=generator)  # (B, P)
    writers = {
        OURS: lambda: ours(model, ids.tolist(), new, True, vocabulary),
        NAIVE: lambda: ours(model, ids.tolist(), new, False, vocabulary),
        THEIRS: lambda: theirs(peer, ids, new),
    }
    texts = {name: write() for name, write in writers.items()}  # which also warms them up
    pairs = zip(texts[OURS], texts[THEIRS], strict=True)
    bursts = {name: functools.partial(burst, write) for name, write in writers.items()}
    speeds = {
        name: [rows * new / seconds for seconds in found]
        for name, found in in_turns(bursts, rounds, warm=0).items()
    }
    return {
        "rows": rows,
        "prompt_tokens": prompt,
        "new_tokens": new,
        "equal": sum(a == b for a, b in pairs) / rows,
        "contestants": [
            {
                "label": name,
                "tokens_per_second": statistics.median(found),
                "rounds": found,
                "ratio_to_transformers": statistics.median(
                    a / b for a, b in zip(found, speeds[THEIRS], strict=True)
                ),
            }
            for name, found in speeds.items()
        ],
    }


def ours(
    model, prompts: list[list[int]], new: int, cached: bool, vocabulary: int
) -> list[list[int]]:
    """New ids of each prompt."""
    rows: list[list[int]] = [[] for _ in prompts]
    for step in generate(model, prompts, new, cached=cached, vocabulary=vocabulary):
        for row, id in step.items():
            rows[row].append(id)
    return rows


def theirs(peer, ids, new: int) -> list[list[int]]:
    """New ids of each prompt."""
    told = peer.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
    )  # (B, P + new)
    return told[:, ids.shape[1] :].tolist()


def burst(write: Writer) -> float:
    """Median seconds of whole texts, written for about :data:`BURST_SECONDS`."""
    times: list[float] = []
    while not times or sum(times) + statistics.median(times) < BURST_SECONDS:
        begun = time.perf_counter()
        write()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def table(result: dict) -> Table:
    """The race for the terminal."""
    grid = Table(
        title=f"{result['run']} as {result['architecture']}, {result['threads']} threads, fp32",
        title_justify="left",
    )
    grid.add_column("")
    for header in ("prompts", "prompt + new", "tokens/s", "x transformers", "same text"):
        grid.add_column(header, justify="right")
    for batch in result["batches"]:
        for entry in batch["contestants"]:
            grid.add_row(
                entry["label"],
                str(batch["rows"]),
                f"{batch['prompt_tokens']} + {batch['new_tokens']}",
                f"{entry['tokens_per_second']:,.0f}",
                f"{entry['ratio_to_transformers']:.2f}",
                f"{batch['equal']:.0%}" if entry["label"] == OURS else "",
            )
        grid.add_section()
    return grid
