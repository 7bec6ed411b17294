"""``mytnano plan``: what a run would take on hardware that need not be here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mytnano.config import ModelConfig, RunConfig
from mytnano.designs.baselines import starting_design
from mytnano.designs.recipes import (
    DEFAULT_SIZE,
    RECIPES,
    batch_windows,
    recipe_of,
    whole_share,
)
from mytnano.designs.rungs import RUNGS
from mytnano.designs.scale import SCALE
from mytnano.designs.settings import changed
from mytnano.errors import UserError
from mytnano.measure.devices import Device
from mytnano.measure.flops import forward_flops_per_token, training_flops
from mytnano.measure.memory_plan import Weights, count_weights
from mytnano.planning.memory import Memory, micro_windows, training_memory
from mytnano.training.optimizers import update_flops

MFU = (0.3, 0.5)
"""Shares of the published peak that are assumed: no run of this program on such hardware has been
measured. PaLM reported 0.46 (Chowdhery et al. 2022), well-tuned small runs 0.4 to 0.55. What blocks
compute again is added to the operations, so that they take the time that these take."""

RESERVE_SHARE, RESERVE_BYTES = 0.06, 1 << 30
"""Of a device's memory, left for the CUDA context, communication buffers and the allocator's gaps:
an assumption too."""

BYTES_PER_TOKEN = {"char": 1.0, "byte": 1.0, "bpe": 3.6, "cl100k": 4.6, "cl100k-compact": 4.6}
"""Of English text, roughly; only used where a design leaves its context to the text."""

VOCABULARY = {"char": 128, "byte": 257, "cl100k": 100_257, "cl100k-compact": 30_000}
"""Likewise, where it leaves its vocabulary to the text."""


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    Attributes:
        config: as it would be run, with ``batch_windows`` over all devices.
        tokens: of training. steps: of the optimizer.
        weights: numbers of them. flops: counted, of all training, the optimizer's included.
        recomputed: operations that blocks which recompute make besides.
        sharded: whether the engine is that of many devices, also on one.
        memory: of each device. room: bytes that it may take.
        mfu: shares of the peak, the lower first; of one that was given, twice that.
        hours: at the higher and at the lower share.
        other: memory with recomputation if the run has none, without it if it has.
        advice: sentences on what to change.
    """

    config: RunConfig
    device: Device
    devices: int
    tokens: int
    steps: int
    weights: Weights
    flops: float
    recomputed: float
    sharded: bool
    memory: Memory
    other: Memory
    room: int
    mfu: tuple[float, float]
    hours: tuple[float, float]
    advice: list[str]

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.room


def design_named(name: str, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """Any design by name, with a vocabulary and a context even if the text is to settle them.

    Args:
        changes: settings that replace the design's, by name.

    Raises:
        UserError: there is no such design or setting.
    """
    changes = changes or {}
    try:
        config = changed(SCALE.get(name) or starting_design(name), changes)
    except UserError as error:
        named = name in SCALE or recipe_of(name) or name in RUNGS
        raise error if named else UserError(f"{error}; and {', '.join(SCALE)}") from None
    kind, _, size = config.data.tokenizer.partition(":")
    vocabulary, context = config.model.vocab_size, config.model.context
    if not vocabulary or ("data.tokenizer" in changes and "model.vocab_size" not in changes):
        vocabulary = int(size) if size else VOCABULARY[kind]
    if not context or ("data.window_bytes" in changes and "model.context" not in changes):
        context = max(2, round(config.data.window_bytes / BYTES_PER_TOKEN[kind]))
    return config.but(model={"vocab_size": vocabulary, "context": context})


def is_recipe(name: str) -> bool:
    """Whether :func:`design_named` takes it for a recipe, not for the rung of the same name."""
    return recipe_of(name) is not None and name not in RUNGS


def make_plan(
    config: RunConfig,
    device: Device,
    devices: int,
    tokens: int,
    context: int | None = None,
    mfu: float | None = None,
    sharded: bool = False,
    batch_rule: bool = False,
) -> Plan:
    """Plan a run in bf16 on ``devices`` of one kind.

    Args:
        config: from :func:`design_named`.
        tokens: to train on.
        context: another window than the design's, with as many tokens in a step.
        mfu: the share of the peak that such runs reach, if it was measured.
        sharded: as in :func:`~mytnano.planning.memory.training_memory`.
        batch_rule: whether the batch follows from the tokens, as ``mytnano train`` has it for a
            recipe, rounded up to what the devices share evenly.

    Raises:
        UserError: the devices do not share a step's windows evenly, or ``mfu`` is no share.
    """
    if mfu is not None and not 0 < mfu <= 1:
        raise UserError("--mfu must be above 0 and at most 1, such as 0.4")
    config = config.but(train={"precision": "bf16", "device": "cuda"})
    if context is not None:
        config = with_context(config, context)
    if batch_rule:
        windows = whole_share(batch_windows(tokens, config.model.context), devices)
        config = config.but(train={"batch_windows": windows})
    batch = config.train.batch_windows
    if batch % devices:
        raise UserError(
            f"{devices} devices cannot share the {batch} windows of a step evenly: set "
            f"train.batch_windows={-(-batch // devices) * devices}, or take another number of them"
        )
    weights = count_weights(config.model)
    steps = max(1, round(tokens / (batch * config.model.context)))
    flops = training_flops(config.model, tokens) + steps * update_flops(config)
    recomputed = block_flops(config.model, tokens) if config.train.recompute else 0.0
    shares = MFU if mfu is None else (mfu, mfu)
    peak_hours = (flops + recomputed) / (devices * device.flops * 3600)
    sharded = sharded or devices > 1
    room = round(device.memory * (1 - RESERVE_SHARE)) - RESERVE_BYTES
    toggled = config.but(train={"recompute": not config.train.recompute})
    plan = Plan(
        config=config,
        device=device,
        devices=devices,
        tokens=tokens,
        steps=steps,
        weights=weights,
        flops=flops,
        recomputed=recomputed,
        sharded=sharded,
        memory=training_memory(config, devices, sharded),
        other=training_memory(toggled, devices, sharded),
        room=room,
        mfu=shares,
        hours=(peak_hours / shares[1], peak_hours / shares[0]),
        advice=[],
    )
    return replace(plan, advice=advice(plan))


def block_flops(model: ModelConfig, tokens: int) -> float:
    """Operations of one forward pass through the blocks alone, which recomputation repeats."""
    return tokens * (forward_flops_per_token(model) - forward_flops_per_token(model.but(layers=0)))


def with_context(config: RunConfig, context: int) -> RunConfig:
    """Windows of ``context`` tokens, and about as many tokens in a step."""
    if not 2 <= context <= 1 << 24:
        raise UserError(f"the context must be 2 to {1 << 24:,} tokens, such as 2048")
    before = config.model.context
    windows = max(1, round(config.train.batch_windows * before / context))
    micro = config.train.micro_windows and max(1, config.train.micro_windows * before // context)
    return config.but(
        model={"context": context},
        data={"window_bytes": max(8, round(config.data.window_bytes * context / before))},
        train={"batch_windows": windows, "micro_windows": micro},
    )


def advice(plan: Plan) -> list[str]:
    """What to change: to make it fit, or to use what is there."""
    if plan.fits:
        return _when_it_fits(plan)
    found = []
    own = micro_windows(plan.config, plan.config.train.batch_windows // plan.devices)
    fewer, both = sufficient(plan.config, own, functools.partial(_fits, plan))
    if fewer:
        found.append(f"micro_windows={fewer} fits: the same step in more, smaller passes")
    if both == own:
        found.append("recompute=true fits, for up to a third more arithmetic")
    elif both and not fewer:
        found.append(f"recompute=true with micro_windows={both} fits")
    if not found and (more := _more_devices(plan)):
        found.append(f"{more} would fit")
    if not found:
        found.append(
            "nothing of micro-batches, recomputation or up to 64 times the devices makes it fit: "
            "use a smaller design, a shorter --context, or devices with more memory"
        )
    return found


def _when_it_fits(plan: Plan) -> list[str]:
    train = plan.config.train
    if train.recompute and _fits(plan, recompute=False):
        return ["it fits with recompute=false too, which is up to a quarter less arithmetic"]
    share = train.batch_windows // plan.devices
    own = micro_windows(plan.config, share)
    larger = [n for n in range(2 * own, share + 1, own) if share % n == 0]
    best = max((n for n in larger[:4] if _fits(plan, micro_windows=n)), default=None)
    if best and plan.memory.total < 0.5 * plan.room:
        return [f"there is room for larger passes: micro_windows={best} fits too"]
    return []


def _fits(plan: Plan, **train: object) -> bool:
    config = plan.config.but(train=train)
    return training_memory(config, plan.devices, plan.sharded).total <= plan.room


def _more_devices(plan: Plan) -> str | None:
    """``4xH100 with recompute=true``: the smallest number that suffices, with what it takes."""
    settings: list[dict[str, Any]] = [{}, {"recompute": True}, {"recompute": True}]
    settings[-1]["micro_windows"] = 1
    for factor in (2, 4, 8, 16, 32, 64):
        devices = factor * plan.devices
        if plan.config.train.batch_windows % devices:
            return None
        for train in settings:
            if training_memory(plan.config.but(train=train), devices).total <= plan.room:
                named = [f"{name}={str(value).lower()}" for name, value in train.items()]
                told = f" with {' and '.join(named)}" if named else ""
                return f"{devices}x{plan.device.name}{told}"
    return None


def sufficient(
    config: RunConfig, own: int, fits: Callable[..., bool]
) -> tuple[int | None, int | None]:
    """The most windows of one pass that suffice: fewer than its ``own``, and if blocks recompute.

    Args:
        fits: whether a step does with other settings of ``train``.

    Returns:
        None for what does not suffice, or is done already.
    """
    fewer = next((n for n in halves(own) if fits(micro_windows=n)), None)
    sizes = [] if config.train.recompute else [own, *halves(own)]
    return fewer, next((n for n in sizes if fits(micro_windows=n, recompute=True)), None)


def halves(number: int) -> list[int]:
    """``8`` -> ``[4, 2, 1]``."""
    found = []
    while number > 1:
        number //= 2
        found.append(number)
    return found


def as_json(plan: Plan) -> dict:
    """Everything, as plain values; bytes, FLOPs and hours."""
    return {
        "parameters": vars(plan.weights),
        "tokens": plan.tokens,
        "steps": plan.steps,
        "flops": plan.flops,
        "flops_per_token": plan.flops / plan.tokens,
        "recomputed_flops": plan.recomputed,
        "device": vars(plan.device),
        "devices": plan.devices,
        "memory_per_device": {**vars(plan.memory), "total": plan.memory.total},
        "memory_with_the_other_recompute": {**vars(plan.other), "total": plan.other.total},
        "room_per_device": plan.room,
        "fits": plan.fits,
        "sharded": plan.sharded,
        "mfu": plan.mfu,
        "mfu_assumed": plan.mfu == MFU,
        "hours": plan.hours,
        "advice": plan.advice,
        "config": plan.config.model_dump(),
    }


def sentences(plan: Plan, name: str) -> list[str]:
    """The plan in words."""
    model, train, memory = plan.config.model, plan.config.train, plan.memory
    share = train.batch_windows // plan.devices
    parts = {
        "weights (fp32)": memory.weights,
        f"weights in {train.precision}"
        + (", gathered, and gradients of tables" if plan.sharded else ""): memory.copies,
        "gradients (fp32)": memory.gradients,
        "gradients that wait for the last micro-batch": memory.summed,
        f"{plan.config.optim.optimizer}'s state": memory.optimizer,
        "averaged weights": memory.average,
        f"activations of {micro_windows(plan.config, share)} windows"
        + (", recomputed" if train.recompute else ""): memory.activations,
        f"work at the largest moment (logits: {gigabytes(memory.logits)})": memory.working,
        "more in steps that are probed": memory.probe,
    }
    more = f", and {plan.recomputed:.3g} to recompute" if plan.recomputed else ""
    rung = [f"{name} is the ladder's rung; as a recipe: {name}:{DEFAULT_SIZE}"]
    return [
        *(rung if name in RECIPES and not is_recipe(name) else []),
        f"{name}: {plan.weights.total:,} parameters ({plan.weights.hidden:,} in the matrices of "
        f"{model.layers} blocks), context {model.context:,}, vocabulary {model.vocab_size:,}",
        f"{plan.tokens:,} tokens in {plan.steps:,} steps of "
        f"{train.batch_windows * model.context:,}: {plan.flops:.3g} FLOP, counted{more}",
        f"memory of each of {plan.devices} {plan.device.name} "
        f"({gigabytes(plan.device.memory)}, of which {gigabytes(plan.room)} may be used):",
        *(f"  {gigabytes(size):>9}  {what}" for what, size in parts.items() if size),
        f"  {gigabytes(memory.total):>9}  in all: {'it fits' if plan.fits else 'it does not fit'}",
        f"  {gigabytes(plan.other.total):>9}  with recompute={str(not train.recompute).lower()} "
        f"(activations {gigabytes(plan.other.activations)})",
        *(f"  {sentence}" for sentence in plan.advice),
        time_sentence(plan),
    ]


def time_sentence(plan: Plan) -> str:
    """The time, and what is assumed for it."""
    (low, high), (worst, best) = plan.hours, plan.mfu
    peak = f"the published {plan.device.flops / 1e12:g} TFLOP/s ({plan.device.source})"
    if plan.mfu != MFU:
        return f"time: {hours(low)} at {best:.3g} of {peak}"
    return (
        f"time: {hours(low)} to {hours(high)} at {best:.0%} to {worst:.0%} of {peak}, which is an "
        "assumption"
    )


def gigabytes(size: float) -> str:
    """``1.23 GB``; below a tenth of one ``12.34 MB``."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"


def hours(number: float) -> str:
    """Minutes, hours or days, whichever reads best."""
    if number < 1:
        return f"{60 * number:.2g} minutes"
    return f"{number:.1f} hours" if number < 72 else f"{number / 24:.1f} days"
