"""Regions about the tree itself: dependencies, timed commands, and the engine's race."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Any

from generator.tables import Project, conditions, paragraphs, plain, table
from mytnano.bench.shapes import SHAPES, Shape
from mytnano.report import words

COMMANDS_FILE = "results/commands.json"


def dependencies(project: Project) -> str:
    """Direct dependencies: the least version that is accepted and the one that is installed."""
    pinned = dict(_pins((project.root / "constraints.txt").read_text(encoding="utf-8")))
    with (project.root / "pyproject.toml").open("rb") as file:
        metadata = tomllib.load(file)["project"]
    groups = {"runtime": metadata["dependencies"], **metadata.get("optional-dependencies", {})}
    rows = []
    for group, requirements in groups.items():
        for requirement in requirements:
            name, wanted = re.fullmatch(r"([\w.-]+)(.*)", requirement).groups()
            pin = pinned.get(_normal(name))
            rows.append((f"`{name}`", group, wanted, pin or "not pinned"))
    total = f"`constraints.txt` pins {len(pinned)} packages, those that these bring included."
    return paragraphs(table(("package", "group", "accepted", "pinned"), rows), total)


def _pins(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, version = line.partition("==")
        if equals:
            yield _normal(name.strip()), version.strip()


def _normal(name: str) -> str:
    """A name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def commands(project: Project) -> str:
    """How long the two commands take from a fresh clone."""
    timed = project.read(COMMANDS_FILE)
    if not timed:
        return (
            "The two commands have not been timed from a fresh clone in this tree: "
            "`scripts/publish.py fresh` does that."
        )
    rows = [
        (f"`{c['command']}`", f"{c['seconds'] / 60:.1f} min", plain(c.get("last_line") or ""))
        for c in timed["commands"]
    ]
    note = (
        "From a fresh clone, one after the other; the first installs the package, the second the "
        f"tools for tests. {conditions(timed.get('environment'))}"
    )
    header = ("command", "wall clock, all in", "last line printed")
    return paragraphs(table(header, rows, header[1:2]), note)


def bench(project: Project) -> str:
    """The engine's race: every file of results/bench, as `mytnano bench` wrote it."""
    parts: list[str] = []
    for path in project.files("results/bench/*.json"):
        race = project.read(path)
        for name, shape in race["shapes"].items():
            parts += [f"Shape {name}: {_size(SHAPES[name])}.", _race(shape), _peak(shape)]
        parts.append(
            f"`{path}`: medians of {race['rounds']} rounds, {race['threads']} threads each; a "
            "ratio is the median of the ratios within a round. "
            f"{conditions(race['environment'])}"
        )
    if parts:
        return paragraphs(*parts)
    return (
        "No race is published yet: `mytnano bench --nanogpt PATH --out results/bench/NAME.json` "
        "makes it."
    )


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
                entry["label"], f"{entry['tokens_per_second']:,.0f}", *ratios,
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
