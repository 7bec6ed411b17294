"""The regions about larger models: coordinates, rates, memory, the loader, and a forecast."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from generator.tables import (
    Project,
    bullets,
    conditions,
    conditions_of,
    environments_of,
    paragraphs,
    plain,
    table,
)
from mytnano.config import ModelConfig, RunConfig

COORDINATES = "results/scale/coordinates.json"
LR_TRANSFER = "results/scale/lr_transfer.json"
MEMORY = "results/scale/memory.json"
FORECAST = "results/scale/forecast"
FORECAST_FIGURE = Path("docs/img/forecast.svg")
LOADER = "results/scale/loader.json"
WHOLE = "results/scale/whole_recipe.json"
RATIOS = {"ratio": "resident", "tensors_ratio": "tensors'"}
SHOWN = (("width", "stream"), ("width", "logits"), ("layers", "stream"), ("layers", "logits"))
NAMES = {"width": "width", "layers": "depth"}


def coordinates(project: Project) -> str:
    """With which power of the size activations grow, the lowest and the highest seed."""
    found = project.read(COORDINATES)
    if found is None:
        return "Not measured in this tree: `scripts/publish.py scale` makes it."
    rows = []
    for scaling, axes in found["scalings"].items():
        cells = []
        for axis, place in SHOWN:
            powers = [growth[place] for growth in axes[axis]["growth"].values()]
            cells.append(f"{min(powers):+.2f} to {max(powers):+.2f}")
        rows.append((f"`{scaling}`", *cells))
    header = ("scaling", *(f"{NAMES[axis]}: {place}" for axis, place in SHOWN))
    seeds = len(next(iter(found["scalings"].values()))["width"]["growth"])
    told = f"Lowest and highest of {seeds} seeds, {found['steps']} steps at a rate of "
    told += f"{found['config']['optim']['lr']:g} (`{COORDINATES}`). "
    return paragraphs(table(header, rows, header[1:]), told + conditions(found["environment"]))


def lr_transfer(project: Project) -> str:
    """The best rate of each size under each scaling, and what the base's rate would cost there."""
    found = project.read(LR_TRANSFER)
    if found is None:
        return "Not measured yet."
    designs = found["designs"]
    rows = [_rate_row(name, entry) for name, entry in designs.items()]
    header = (
        "scaling", "width", "depth", "best rate", "octaves from the base's", "cost", "lowest BPB",
    )  # fmt: skip
    base = RunConfig.model_validate(found["base"]).model
    spans = [(f"`{rules}`", *_spans(designs, rules, base)) for rules in _scalings(designs)]
    spans_header = ("scaling", "octaves over width", "octaves over depth", "greatest cost")
    told = (
        f"The base is {base.width} wide and {base.layers} blocks deep; the first table says how "
        "far apart the best rates of its widths (at that depth) and of its depths (at that width) "
        "lie. Cost: what the base's best rate would cost at a size, in BPB of validation text, by "
        "the parabola through the best three; none where a neighbour of the best rate exploded. "
        "Rates were tried an octave apart, so a fraction of an octave is no finding. "
        "Lowest BPB: of the rates tried. Flat: the rate hardly matters. "
        f"{len(found['seeds'])} seed(s) a rate, {found['train_bytes'] // 1024} KiB of text a run "
        f"(`{LR_TRANSFER}`). "
    )
    return paragraphs(
        table(spans_header, spans, spans_header[1:]),
        table(header, rows, header[1:]),
        _at_the_widest(designs),
        told + conditions(found["environment"]),
    )


def _at_the_widest(designs: dict[str, Any]) -> str | None:
    """What each scaling reaches at its own best rate where widths differ most: a rate may transfer
    and still lead to a worse model."""
    width = max(int(name.split("-")[1][1:]) for name in designs)
    lowest = {
        scaling: min(loss for _, loss in entry["points"])
        for name, entry in designs.items()
        for scaling, wide, _ in (name.split("-"),)
        if wide == f"d{width}"
    }
    if len(lowest) < 2:
        return None
    said = " and ".join(f"{loss:.3f} under `{scaling}`" for scaling, loss in lowest.items())
    return (
        f"A rate that transfers is not yet a better model: at the width of {width} the lowest BPB "
        f"is {said}, each at its own best rate."
    )


def _scalings(designs: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(name.partition("-")[0] for name in designs))


def _spans(designs: dict[str, Any], scaling: str, base: ModelConfig) -> tuple[str | None, ...]:
    """How far apart one scaling's best rates lie over width and over depth, and what that costs."""
    sizes = {
        (int(width[1:]), int(layers[1:])): entry
        for name, entry in designs.items()
        for rules, width, layers in (name.split("-"),)
        if rules == scaling
    }
    cells: list[str | None] = []
    for axis in (
        [entry for (_, layers), entry in sizes.items() if layers == base.layers],
        [entry for (width, _), entry in sizes.items() if width == base.width],
    ):
        octaves = [math.log2(entry["lr"]) for entry in axis]
        cells.append(f"{max(octaves) - min(octaves):.2f}" if len(axis) > 1 else None)
    costs = [e["cost_of_base_lr"] for e in sizes.values() if e["cost_of_base_lr"] is not None]
    return (*cells, f"{max(costs):.4f}" if costs else None)


def _rate_row(name: str, entry: dict[str, Any]) -> tuple[str | None, ...]:
    """``mup-d64-l8`` and its search as cells."""
    scaling, width, layers = name.split("-")
    octaves, cost = entry["octaves_from_base"], entry["cost_of_base_lr"]
    marks = [word for word, on in (("flat", entry["flat"]), ("edge", not entry["interior"])) if on]
    rate = f"{entry['lr']:g}" + (f" ({', '.join(marks)})" if marks else "")
    return (
        f"`{scaling}`",
        width[1:],
        layers[1:],
        rate,
        None if octaves is None else f"{octaves:+.2f}",
        None if cost is None else f"{cost:.4f}",
        f"{min(loss for _, loss in entry['points']):.3f}",
    )


def whole_recipe(project: Project) -> str:
    """The largest recipe at its full size: parameters, losses of a few steps, memory."""
    found = project.read(WHOLE)
    if found is None:
        return (
            "Not measured in this tree: `scripts/whole_recipe.py --out out/whole_recipe.json` "
            "takes a few steps of `mytllm-1b` on a CPU."
        )
    first, *others = found["losses"]
    peak, planned = found["measured"], found["planned"]
    return (
        f"`{found['recipe']}` itself, {found['parameters']:,} parameters, takes steps of one "
        f"window of {found['context']:,} tokens on a CPU, as one rank with blocks that recompute: "
        f"the loss of the same window goes from {first:.2f} to "
        f"{', '.join(f'{loss:.2f}' for loss in others)} nats per token at a rate of "
        f"{found['rate']:g}. Their peak was {peak / 1e9:.1f} GB of resident memory, "
        f"{planned / 1e9:.1f} GB were planned ({planned / peak:.3f} times; `{WHOLE}`). "
        f"{conditions(found['environment'])}"
    )


def loader(project: Project) -> str:
    """How fast batches come from shards, and whether memory stays flat."""
    found = project.read(LOADER)
    if found is None:
        return (
            "Not measured in this tree: `scripts/loader_bench.py --gigabytes 10 --out "
            "out/loader.json` makes it."
        )
    load = found["environment"].get("load")
    busy = "" if load is None else f", at a load of {load:.1f} when it ended"
    return (
        f"{found['tokens_per_second']:,.0f} tokens/s on one core (goal: {found['goal']:,}) in "
        f"{found['steps']:,} batches of {found['batch_windows']} windows of {found['context']:,} "
        f"tokens, from {found['set_bytes'] / 1e9:.1f} GB in {found['shards']} shards; resident "
        f"memory grew by {found['resident_growth_bytes'] / 1e6:.0f} MB, where all that was read "
        f"would have been {found['mapped_bytes'] / 1e9:.1f} GB of pages{busy} (`{LOADER}`). "
        f"{conditions(found['environment'])}"
    )


def forecast(project: Project, images: str = "img") -> str:
    """What the runs of budget ``full`` say, in the command's own words, and its figure."""
    found = project.read(f"{FORECAST}/forecast.json")
    if found is None:
        return "Not measured yet: `scripts/publish.py forecast FOLDER` publishes one."
    picture = (
        "![Bits per byte over bytes of text for each size, with the fitted law, and its residuals]"
        f"({images}/{FORECAST_FIGURE.name})"
    )
    rates = ", ".join(f"{rate:g} ({size})" for size, rate in found["rates"].items())
    told = f"Corpus: {found['corpus']}. Tuned rates: {rates}. Every run: `{FORECAST}/runs.csv`. "
    said = bullets(map(plain, found["sentences"]))
    return paragraphs(said, picture, told + conditions_of(environments_of(found)))


def memory(project: Project) -> str:
    """Planned over measured memory of each shape."""
    found = project.read(MEMORY)
    if found is None:
        return "Not measured in this tree: `scripts/publish.py scale` makes it."
    whole = found.get("environment")  # of earlier files, which had one for all shapes
    where = [shape.get("environment") or whole for shape in found["shapes"].values()]
    rows = [
        (
            name,
            f"{shape['measured'] / 1e6:,.0f} MB",
            f"{shape['ratio']:.3f}",
            f"{shape['tensors_ratio']:.3f}",
        )
        for name, shape in found["shapes"].items()
    ]
    header = ("shape", "resident, measured", "planned / measured", "tensors alone")
    off = {key: [abs(s[key] - 1) for s in found["shapes"].values()] for key in RATIOS}
    told = " and ".join(
        f"{sum(each <= 0.1 for each in off[key])} of {len(off[key])} {what} plans are within 10 % "
        f"of the measurement, the others within {max(off[key]):.0%}"
        if max(off[key]) > 0.1 else f"all {what} plans within {max(off[key]):.1%}"
        for key, what in RATIOS.items()
    )  # fmt: skip
    return paragraphs(table(header, rows, header[1:]), f"{told}. {conditions_of(where)}")
