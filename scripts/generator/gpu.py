"""The region about what scripts/gpu_check.py found on a GPU."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from generator.tables import Project, bullets, conditions_of, paragraphs, table

GPU = "results/scale/gpu.json"
MEASURE = "`scripts/gpu_check.py --out out/gpu.json`"
WAYS = ("eager", "compiled", "recompute")
Part = dict[str, Any]


def gpu(project: Project) -> str:
    """Agreement with the CPU, FSDP2 on one device, memory against the plan, speed of the recipe."""
    found = project.read(GPU)
    if found is None:
        return f"Not measured, as no GPU was at hand: {MEASURE} does it on one."
    whole = {name: part for name, part in found.items() if "failed" not in part}
    told = [say(whole[name]) for name, say in SENTENCES.items() if name in whole]
    failed = [name for name in found if name not in whole]
    told += [f"`{name}` failed: {found[name]['failed']}." for name in failed]
    where = conditions_of([part["environment"] for part in found.values()])
    return paragraphs(
        bullets(told),
        _shapes(whole["memory"]["shapes"]) if "memory" in whole else None,
        _ways({name: whole[name] for name in WAYS if name in whole}),
        f"Measured by {MEASURE} (`{GPU}`). {where}",
    )


def _agree(part: Part) -> str:
    return (
        f"Over {part['steps']} steps of `mytllm-tiny` in fp32 losses are within "
        f"{part['from_cpu']['here']:.1g} nats per token of the CPU's (bf16: "
        f"{part['from_cpu']['bf16']:.1g}). A run that was stopped and went on is within "
        f"{part['stopped_from_whole']:.1g} of the whole one, and that one within "
        f"{part['again']:.1g} of itself when it is repeated."
    )


def _sharded(part: Part) -> str:
    speeds = part["tokens_per_second"]
    plain, ranked = (f"{statistics.median(speeds[name]):,.0f}" for name in ("plain", "sharded"))
    model = part["model"]
    return (
        f"One rank of FSDP2 is within {part['loss_gap']:.1g} nats per token of the plain engine "
        f"over {part['steps']} steps in fp32, and in bf16 makes {ranked} tokens/s, where that one "
        f"makes {plain} ({part['ratio']:.0%}; {model['layers']} blocks of {model['width']}, "
        f"vocabulary {model['vocab_size']:,}; compiled block by block, and as a whole). With one "
        "rank neither weights nor gradients travel: gathers and reductions over NCCL were not "
        "tried."
    )


def _plans(part: Part) -> str:
    off = [abs(shape["ratio"] - 1) for shape in part["shapes"].values()]
    return (
        f"{sum(each <= 0.1 for each in off)} of {len(off)} plans of memory are within 10 % of the "
        f"measured peak; the farthest is {max(off):.1%} off."
    )


def _shapes(shapes: dict[str, dict[str, float]]) -> str:
    rows = [
        (name, f"{shape['measured'] / 1e9:.2f} GB", f"{shape['ratio']:.3f}")
        for name, shape in shapes.items()
    ]
    header = ("shape", "peak, measured", "planned / measured")
    return table(header, rows, header[1:])


def _ways(ways: dict[str, Part]) -> str | None:
    rows = [
        (
            f"`{way['recipe']}`, {name}",
            f"{way['batch_windows']} by {way['micro_windows']}",
            f"{way['tokens_per_second']:,.0f}",
            f"{way['flops_per_second'] / 1e12:,.0f}",
            None if way["mfu"] is None else f"{way['mfu']:.1%}",
            f"{way['measured'] / 1e9:.1f} GB",
            f"{way['predicted'] / way['measured']:.3f}",
            f"{way['first_step_seconds']:.0f} s",
        )
        for name, way in ways.items()
    ]
    header = (
        "one device", "windows a step", "tokens/s", "TFLOP/s", "MFU", "peak", "planned / measured",
        "first step",
    )  # fmt: skip
    return table(header, rows, header[1:]) if rows else None


SENTENCES: dict[str, Callable[[Part], str]] = {
    "agree": _agree,
    "sharded": _sharded,
    "memory": _plans,
}
