"""Memory of a whole training step on each device, by part, for one device or many."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mytnano.config import RunConfig
from mytnano.measure.memory_plan import (
    BF16,
    FP32,
    HEAP_SHARE,
    RECOMPUTED_HEAP_SHARE,
    count_weights,
    one_pass,
    state_bytes,
)
from mytnano.training.engine import MICRO_TOKENS, recompute_blocks

GATHERED_BLOCKS = 3
"""Blocks that FSDP2 may hold whole at once: the one that runs, the next, and a gather's buffer."""

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
    if config.train.micro_windows:
        return min(windows, config.train.micro_windows)
    if config.train.device == "cpu":
        return min(windows, max(1, MICRO_TOKENS // config.model.context))
    return windows


def fitting_windows(config: RunConfig, free: int) -> int:
    """Windows of one pass with which a step on one device fits into ``free`` bytes.

    All of a step's at once if they do, else halved until they do; one if nothing fits.
    """
    windows = config.train.batch_windows
    while windows > 1:
        wanted = config.but(train={"micro_windows": windows})
        if training_memory(wanted).total <= SHARE * free:
            break
        windows = -(-windows // 2)
    return windows


def training_memory(config: RunConfig, devices: int = 1) -> Memory:
    """Predict a step's memory on each of ``devices`` that share each batch and all weights evenly.

    One device is :class:`~mytnano.training.engine.Engine`; many are its sharded form (FSDP2), whose
    gathers and reductions are counted as PyTorch documents them.

    Args:
        config: resolved; ``batch_windows`` is of all devices.
    """
    train, weights = config.train, count_weights(config.model)
    windows = micro_windows(config, max(1, train.batch_windows // devices))
    passed = one_pass(
        config.model,
        windows,
        train.precision,
        recompute_blocks if train.recompute else None,
        device=train.device,
        cross_documents=config.data.cross_documents,
        sharded=devices > 1,
    )
    low = train.precision == "bf16"
    heap_share = RECOMPUTED_HEAP_SHARE if train.recompute else HEAP_SHARE
    share = -(-weights.total // devices)
    copies = summed = 0
    if devices == 1:
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
        allocator=round(heap_share * passed.heap) if train.device == "cpu" else 0,
    )
