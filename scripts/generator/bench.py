"""Regions about speed: every file of results/bench, as `mytnano bench` wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from generator.tables import Project, conditions, paragraphs, plain, table
from mytnano import words
from mytnano.bench.shapes import SHAPES, Shape


def _found(project: Project, kind: str) -> Iterable[tuple[str, dict[str, Any]]]:
    for path in project.files(f"results/bench/{kind}-*.json"):
        yield path, project.read(path)


def _absent(kind: str, options: str) -> str:
    file = f"results/bench/{kind}-NAME.json"
    return f"Not measured in this tree: `mytnano bench {options} --out {file}` does it."


CONTESTANTS = {
    "mytNano, minute": "mytNano, for a minute",
    "mytNano, quarter": "mytNano, in a quarter of nanoGPT's time",
    "mytNano, as long": "mytNano, in nanoGPT's time",
}
"""What the contestants of the race for quality are called on a page."""


def quality(project: Project) -> str:
    """Bits per byte over seconds, beside nanoGPT."""
    parts = []
    for path, found in _found(project, "quality"):
        rows = [
            (
                CONTESTANTS.get(name, name),
                _spread(each["seconds"], _of_rounds(found, name, "seconds"), ".1f"),
                _spread(each["bpb"], _of_rounds(found, name, "bpb"), ".3f"),
            )
            for name, each in found["medians"].items()
        ]
        header = ("", "seconds, all in", "bits per byte")
        told = (
            f"`{path}`: `{found['text']['name']}`, the last {found['text']['test_bytes']:,} of "
            f"{found['text']['bytes']:,} bytes as test; medians of {found['rounds']} rounds, in "
            "brackets the lowest and the highest. "
        )
        parts += [table(header, rows, header[1:]), told + conditions(found["environment"])]
    return paragraphs(*parts) or _absent("quality", "--quality TEXT --nanogpt PATH")


def _of_rounds(found: dict[str, Any], name: str, key: str) -> list[float]:
    """What each round gave one contestant."""
    return [each[key] for each in found["runs"] if each["who"] == name]


def _spread(median: float, values: list[float], form: str) -> str:
    """``141.8 (129.0 to 154.6)``; the median alone where nothing else was measured."""
    if len(set(values)) < 2:
        return f"{median:{form}}"
    return f"{median:{form}} ({min(values):{form}} to {max(values):{form}})"


def tokenizers(project: Project) -> str:
    """MB/s of training and encoding."""
    parts = []
    for path, found in _found(project, "tokenizers"):
        rows = [(name, f"{speed:.1f}") for name, speed in found["megabytes_per_second"].items()]
        told = (
            f"`{path}`: {found['bytes'] / 1e6:.1f} MB of `{found['corpus']}`, medians of "
            f"{found['rounds']} rounds. "
        )
        parts += [table(("", "MB/s"), rows, ("MB/s",)), told + conditions(found["environment"])]
    return paragraphs(*parts) or _absent("tokenizers", "--tokenizers")


def decode(project: Project) -> str:
    """Tokens written per second, beside transformers."""
    parts = []
    for path, found in _found(project, "decode"):
        rows = [
            (
                batch["rows"],
                entry["label"],
                f"{entry['tokens_per_second']:,.0f}",
                f"{entry['ratio_to_transformers']:.2f}",
            )
            for batch in found["batches"]
            for entry in batch["contestants"]
        ]
        header = ("prompts at a time", "", "tokens/s", "x transformers")
        told = (
            f"`{path}`: `{found['run']}`, a {found['architecture']}, greedily; transformers "
            f"{found['transformers']}, {found['threads']} threads, medians of {found['rounds']} "
            "rounds. "
        )
        parts += [
            table(header, rows, (header[0], *header[2:])),
            told + conditions(found["environment"]),
        ]
    return paragraphs(*parts) or _absent("decode", "--decode RUN")


def race(project: Project) -> str:
    """The engine's race: every such file of results/bench, as `mytnano bench` wrote it."""
    parts: list[str] = []
    for path, race in _found(project, "race"):
        for name, shape in race["shapes"].items():
            parts += [f"Shape {name}: {_size(SHAPES[name])}.", _race(shape), _peak(shape)]
        parts.append(
            f"`{path}`: medians of {race['rounds']} rounds, in brackets the lowest and the "
            f"highest, {race['threads']} threads each; a "
            "ratio is the median of the ratios within a round. "
            f"{conditions(race['environment'])}"
        )
    return paragraphs(*parts) or _absent("race", "--nanogpt PATH")


def _size(shape: Shape) -> str:
    return (
        f"vocabulary {shape.vocabulary:,}, width {shape.width}, {shape.layers} layers, a step of "
        f"{shape.windows} windows of {shape.context} tokens"
    )


def _race(shape: dict[str, Any]) -> str:
    """Everybody who took part, in the order of the race."""
    peers = list(shape["best"])
    header = ["", "tokens/s", *(f"x best {peer}" for peer in peers), "of the peak"]
    header += ["compile s", "peak MB"]
    rows = []
    for entry in shape["contestants"]:
        if entry["failure"]:
            reason = f"failed: {plain(entry['failure'])}"
            rows.append([entry["label"], reason, *([words.MISSING] * len(header[2:]))])
            continue
        ratios = [f"{entry['ratios'][peer]:.2f}" for peer in peers]
        fraction, seconds = entry["gemm_fraction"], entry["compile_seconds"]
        rows.append(
            [
                entry["label"],
                _spread(entry["tokens_per_second"], entry["rounds"], ",.0f"), *ratios,
                None if fraction is None else f"{fraction:.0%}",
                None if seconds is None else f"{seconds:.0f}", f"{entry['peak_bytes'] / 1e6:,.0f}",
            ]
        )  # fmt: skip
    return table(header, rows, header[1:])


def _peak(shape: dict[str, Any]) -> str:
    peak = shape["gemm_flops_per_second"]
    if not peak:
        return ""
    return f"The peak is a matrix product's {peak / 1e9:,.0f} GFLOP/s in {shape['gemm_precision']}."
