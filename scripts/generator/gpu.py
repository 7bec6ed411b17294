"""The region about what scripts/gpu_check.py found on a GPU."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from generator.tables import Project, bullets, conditions, paragraphs, table

GPU = "results/scale/gpu.json"
Part = dict[str, Any]


def gpu(project: Project) -> str:
    """Agreement with the CPU, FSDP2 on one device, memory against the plan, speed of the recipe."""
    found = project.read(GPU)
    if found is None:
        return f"Not measured, as no GPU was at hand: {MEASURE} does it on one."
    told = [say(found[name]) for name, say in SENTENCES.items() if name in found]
    whole = {name: part for name, part in found.items() if name in TABLES and "failed" not in part}
    tables = [make(whole[name]) for name, make in TABLES.items() if name in whole]
    where = f"Measured by {MEASURE} (`{GPU}`). {conditions(found['environment'])}"
    return paragraphs(bullets(told), *tables, where)


MEASURE = "`scripts/gpu_check.py --out out/gpu.json`"


def _or_why(say: Callable[[Part], str]) -> Callable[[Part], str]:
    """What is said of a part that failed: why it did."""
    return lambda part: f"Failed: {part['failed']}." if "failed" in part else say(part)


def _agree(part: Part) -> str:
    return (
        f"Over {part['steps']} steps of `mytllm-tiny` in fp32 losses are within "
        f"{part['from_cpu']['here']:.1g} nats per token of the CPU's (bf16: "
        f"{part['from_cpu']['bf16']:.1g}), and those of a run that was stopped and went on within "
        f"{part['stopped_from_whole']:.1g} of the whole one's."
    )


def _sharded(part: Part) -> str:
    plain, ranked = (
        f"{statistics.median(part['tokens_per_second'][name]):,.0f}"
        for name in ("plain", "sharded")
    )
    model = part["model"]
    return (
        f"One rank of FSDP2 is within {part['loss_gap']:.1g} nats per token of the plain engine "
        f"over {part['steps']} steps in fp32, and in bf16 makes {ranked} tokens/s, where that one "
        f"makes {plain} ({part['ratio']:.0%}; {model['layers']} blocks of {model['width']}, "
        f"vocabulary {model['vocab_size']:,}, both compiled)."
    )


def _memory(part: Part) -> str:
    rows = [
        (name, f"{shape['measured'] / 1e9:.2f} GB", f"{shape['ratio']:.3f}")
        for name, shape in part.items()
    ]
    header = ("shape", "peak, measured", "planned / measured")
    return table(header, rows, header[1:])


def _plans(part: Part) -> str:
    off = [abs(shape["ratio"] - 1) for shape in part.values()]
    return (
        f"{sum(each <= 0.1 for each in off)} of {len(off)} plans of memory are within 10 % of the "
        f"measured peak; the farthest is {max(off):.1%} off."
    )


def _recipe(part: Part) -> str:
    failed = [f"{name}: {way['failed']}" for name, way in part["ways"].items() if "failed" in way]
    told = f"`mytllm-1b`, whole steps of {part['batch_windows']} windows, on one device (below)."
    return " ".join([told, *(f"Failed, {each}." for each in failed)])


def _ways(part: Part) -> str:
    rows = [
        (
            name,
            f"{way['tokens_per_second']:,.0f}",
            f"{way['flops_per_second'] / 1e12:,.0f}",
            None if way["mfu"] is None else f"{way['mfu']:.1%}",
            None if way["measured"] is None else f"{way['measured'] / 1e9:.1f} GB",
            None if way["measured"] is None else f"{way['predicted'] / way['measured']:.3f}",
            f"{way['first_step_seconds']:.0f} s",
        )
        for name, way in part["ways"].items()
        if "failed" not in way
    ]
    header = ("way", "tokens/s", "TFLOP/s", "MFU", "peak", "planned / measured", "first step")
    return table(header, rows, header[1:]) if rows else ""


SENTENCES: dict[str, Callable[[Part], str]] = {
    "agree": _or_why(_agree),
    "sharded": _or_why(_sharded),
    "memory": _or_why(_plans),
    "recipe": _or_why(_recipe),
}
TABLES: dict[str, Callable[[Part], str]] = {"memory": _memory, "recipe": _ways}
