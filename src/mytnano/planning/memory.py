"""Memory of a whole training step on each device, by part, for one device or many."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mytnano.config import RunConfig
from mytnano.measure.mechanism import MOST_WEIGHTS
from mytnano.measure.memory_plan import (
    BF16,
    FP32,
    HEAP_SHARE,
    RECOMPUTED_HEAP_SHARE,
    Weights,
    count_weights,
    one_pass,
    state_bytes,
)
from mytnano.training.engine import recompute_blocks, windows_at_once
from mytnano.training.probe import WINDOWS

GATHERED_BLOCKS = 3
"""Blocks that FSDP2 may hold whole at once: the one that runs, the next, and a gather's buffer."""

STREAMS, HIDDEN, SCORES = 6, 3, 3
"""Tensors of the size of the stream, of a feed-forward network's inside, and of attention's scores
that a probe has at once."""

SHARE = 0.85
"""Of a GPU's free memory that a prediction may fill; the rest is fragments and libraries."""


@dataclass(frozen=True)
class Memory:
    """Bytes on each device at the largest moment of a step.

    Attributes:
        weights: fp32 master weights.
        copies: working weights in bf16: all of them on one device, the gathered ones of many.
        gradients: fp32.
        summed: gradients of micro-batches, whole and fp32, that many devices have yet to share.
        optimizer: moments. average: of the weights, if one is kept.
        activations: kept for the backward pass of one micro-batch.
        working: at the largest moment beyond those; the chunk of logits is a part of it.
        logits: that part.
        probe: what a step that is measured from inside takes beyond the two, at most.
        allocator: what the C library's heap takes besides; none is counted on a GPU.
    """

    weights: int
    copies: int
    gradients: int
    summed: int
    optimizer: int
    average: int
    activations: int
    working: int
    logits: int
    probe: int
    allocator: int

    @property
    def tensors(self) -> int:
        """What all tensors take."""
        return self.total - self.allocator

    @property
    def total(self) -> int:
        return sum(size for name, size in asdict(self).items() if name != "logits")


def micro_windows(config: RunConfig, windows: int) -> int:
    """Windows of one pass out of a device's ``windows`` of a step, as the engine splits them."""
    train = config.train
    return windows_at_once(train.micro_windows, windows, config.model.context, train.device)


def probe_bytes(config: RunConfig, weights: Weights, devices: int) -> int:
    """What :class:`~mytnano.training.probe.Probe` holds besides the engine, at most; all in fp32.

    Before the gradients a whole copy of the model and what one block makes of a few windows; after
    them this device's share of the blocks, to see how far the update moves it.
    """
    model = config.model
    windows = min(WINDOWS, max(1, config.train.batch_windows // devices))
    positions = windows * model.context
    rows = positions * (STREAMS * model.width + HIDDEN * model.ffn_width)
    if model.mixer == "attention":
        rows += SCORES * min(positions * model.heads * model.context, MOST_WEIGHTS)
    return FP32 * max(weights.total + rows, -(-(weights.total - weights.root) // devices))


def training_memory(config: RunConfig, devices: int = 1, sharded: bool = False) -> Memory:
    """Predict a step's memory on each of ``devices`` that share each batch and all weights evenly.

    One device is :class:`~mytnano.training.engine.Engine`; many are its sharded form (FSDP2), whose
    gathers and reductions are counted as PyTorch documents them. Not counted: the copy that a
    checkpoint of many ranks is written from, and the measurements after the last step.

    Args:
        config: resolved; ``batch_windows`` is of all devices.
        sharded: whether the engine is the sharded one on one device too, as recipes of a fixed
            size have it.
    """
    sharded = sharded or devices > 1
    train, weights = config.train, count_weights(config.model)
    windows = micro_windows(config, max(1, train.batch_windows // devices))
    passed = one_pass(
        config.model,
        windows,
        train.precision,
        recompute_blocks if train.recompute else None,
        device=train.device,
        cross_documents=config.data.cross_documents,
        sharded=sharded,
    )
    low = train.precision == "bf16"
    heap_share = RECOMPUTED_HEAP_SHARE if train.recompute else HEAP_SHARE
    share = -(-weights.total // devices)
    # Blocks that recompute refer to themselves, so a probe's copy of the plain engine's model stays
    # until Python's garbage collector passes.
    stays = FP32 * weights.total if train.recompute and not sharded else 0
    copies = summed = 0
    if not sharded:
        copies = BF16 * weights.total if low else 0
    else:
        gathered = weights.root + GATHERED_BLOCKS * weights.largest_block
        copies = (BF16 if low else FP32) * gathered
        # The tables' gradients are made whole, in fp32 and again for the reduction.
        copies += 2 * FP32 * weights.root
        passes = -(-train.batch_windows // (devices * windows))
        waiting = weights.total if passes > 1 else GATHERED_BLOCKS * weights.largest_block
        summed = FP32 * waiting
    return Memory(
        weights=FP32 * share,
        copies=copies,
        gradients=FP32 * share,
        summed=summed,
        optimizer=-(-state_bytes(weights, config.optim) // devices),
        average=FP32 * share if config.optim.ema else 0,
        activations=passed.kept,
        working=passed.working,
        logits=passed.logits,
        probe=max(stays, probe_bytes(config, weights, devices) - passed.kept - passed.working),
        allocator=round(heap_share * passed.heap) if train.device == "cpu" else 0,
    )
