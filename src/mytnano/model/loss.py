"""Cross-entropy of a large vocabulary without its logits in memory.

Logits are formed for a chunk of rows at a time, and turned into gradients at once, in the forward
pass, so that no chunk is kept or computed twice (the idea of Liger-Kernel's fused linear
cross-entropy, Hsu et al. 2024, in plain PyTorch). Within a chunk the softmax goes a block of rows
at a time, which a CPU then finds in its cache; on an accelerator, where each piece costs launches,
chunks are larger and of one block. A CPU that multiplies bf16 goes through a large vocabulary by
columns instead (:func:`_by_columns`). The result is exact, not an approximation.

With a ``softcap`` c the logits are c tanh(x / c) of the products x (Gemma 2, Riviere et al. 2024).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

IGNORE = -100
"""Target of a row that is padding: it adds neither loss nor gradient (PyTorch's own convention)."""

CHUNK_ELEMENTS = 1 << 23
"""Logits held at once, 32 MB in fp32, if they are of at least :data:`CHUNK_ROWS` rows."""

CHUNK_ROWS = 512
"""Every chunk reads the whole head, and adds to all of its gradient: of a large vocabulary fewer
rows make more traffic than arithmetic."""

BLOCK_ELEMENTS = 1 << 20
"""Logits of one softmax, 4 MB in fp32; a quarter of it was no faster at any vocabulary, and slower
with two threads."""

LARGE_VOCABULARY = 1 << 14
"""Beyond it a CPU's bf16 goes by columns, if its rows are more than one chunk."""

COLUMNS = 1 << 10
"""Tokens of the vocabulary whose logits are then formed at once."""

COLUMN_ROWS = 1 << 8
"""Rows of one softmax then, 1 MB in fp32: less is more calls, more is not in the cache."""

ACCELERATOR_ELEMENTS = 1 << 26
"""Logits held at once beside a CPU, 128 MB in bf16: every chunk reads the head and its gradient.
Chosen by counting bytes and launches, not measured on a GPU."""


def piece_rows(device: str, V: int) -> tuple[int, int]:
    """Rows of a chunk and of a block on a type of device, in a vocabulary of V."""
    if device == "cpu":
        return max(CHUNK_ROWS, CHUNK_ELEMENTS // V), max(1, BLOCK_ELEMENTS // V)
    rows = max(CHUNK_ROWS, ACCELERATOR_ELEMENTS // V)
    return rows, rows


def goes_by_columns(device: str, dtype: torch.dtype, rows: int, V: int) -> bool:
    """Whether the loss of so many rows goes by columns of the vocabulary, with no chunk."""
    large = V > LARGE_VOCABULARY and rows > CHUNK_ROWS
    return device == "cpu" and dtype == torch.bfloat16 and large


def head_loss(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    scale: float = 1.0,
    weight_grad: Tensor | None = None,
    softcap: float = 0.0,
    device: str | None = None,
) -> Tensor:
    """Summed cross-entropy of ``states @ weight.T`` against ``targets``, times ``scale``.

    Args:
        states: (B, T, D), what enters the head. weight: (V, D). targets: (B, T) ids, or ``IGNORE``.
        scale: the weight of each position, such as one over their number.
        weight_grad: fp32 (V, D). If given, the gradient of ``weight`` is added to it at once and
            does not flow back, for a caller that will surely call ``backward`` on the value
            itself. Each chunk's part is in the precision of ``weight``, their sum in fp32.
        softcap: largest logit; 0 is no cap.
        device: type of the device for which to cut the work; by default that of ``states``.

    Returns:
        Scalar fp32 sum in nats; differentiable in ``states`` and ``weight``.
    """
    flat = states.flatten(0, -2)  # (N, D)
    device, V = device or states.device.type, len(weight)
    columns = goes_by_columns(device, weight.dtype, len(flat), V)
    sizes = None if columns else piece_rows(device, V)
    return _ChunkedLoss.apply(flat, weight, targets.flatten(), scale, weight_grad, softcap, sizes)


@torch.no_grad()
def head_scores(
    states: Tensor, weight: Tensor, targets: Tensor, softcap: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Per-position nats and whether the most likely token was right, without gradients.

    Shapes as in :func:`head_loss`; returns fp32 (B, T) and bool (B, T). An ``IGNORE`` position
    scores 0 and False.
    """
    flat, rows = targets.flatten(), states.flatten(0, -2)  # (N,), (N, D)
    nats = torch.zeros(flat.shape, device=states.device)  # (N,)
    right = torch.zeros(flat.shape, dtype=torch.bool, device=states.device)  # (N,)
    on_cpu = states.device.type == "cpu"
    for part, block in _blocks_of_logits(rows, weight):
        logits = block.float()  # (n, V)
        if softcap:
            logits.div_(softcap).tanh_().mul_(softcap)
        kept = flat[part] != IGNORE  # (n,)
        safe = flat[part].clamp_min(0)[:, None]  # (n, 1)
        right_logit = logits.gather(1, safe)  # (n, 1)
        top, normaliser = _exponentiate(logits)  # (n, 1) each
        nats[part] = (normaliser.log() + top - right_logit)[:, 0] * kept
        # Of several tokens with the top logit the first is the guess. On a CPU to find it takes as
        # long as all of the above, so only rows where the right token is one of them are searched;
        # elsewhere to know which these are would wait for the device.
        if on_cpu:
            tops = ((right_logit == top)[:, 0] & kept).nonzero()[:, 0]  # (m,)
            right[part.start + tops] = logits[tops].argmax(-1) == safe[tops, 0]
        else:
            right[part] = (logits.argmax(-1) == safe[:, 0]) & kept
    return nats.view(targets.shape), right.view(targets.shape)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        states: Tensor,
        weight: Tensor,
        targets: Tensor,
        scale: float,
        weight_grad: Tensor | None,
        softcap: float,
        sizes: tuple[int, int] | None,
    ) -> Tensor:
        grad_states = torch.empty_like(states)  # (N, D)
        added = (
            torch.zeros_like(weight, dtype=torch.float32) if weight_grad is None else weight_grad
        )
        work = states, weight, targets, scale, softcap, grad_states, added
        total = _by_columns(*work) if sizes is None else _by_rows(*work, sizes)
        ctx.save_for_backward(grad_states, *([added] if weight_grad is None else []))
        return total

    @staticmethod
    def backward(ctx, grad_total: Tensor):
        grad_states, *grad_weight = ctx.saved_tensors
        return (
            grad_states * grad_total.to(grad_states.dtype),
            (grad_weight[0] * grad_total).to(grad_states.dtype) if grad_weight else None,
            *[None] * 5,
        )


def _by_rows(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    scale: float,
    softcap: float,
    grad_states: Tensor,
    added: Tensor,
    sizes: tuple[int, int],
) -> Tensor:
    """The loss; fills ``grad_states`` (N, D) and adds the weight's gradient to ``added`` (V, D)."""
    total = torch.zeros((), device=states.device)
    chunk, block_rows = sizes
    for part, logits in _chunks_of_logits(states, weight, chunk):
        for block in _slices(len(logits), block_rows):
            total += _loss_and_gradient_(logits[block], targets[part][block], scale, softcap)
        torch.mm(logits, weight, out=grad_states[part])  # logits are gradients by now
        _add_product(added, logits, states[part])
    return total


def _by_columns(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    scale: float,
    softcap: float,
    grad_states: Tensor,
    added: Tensor,
) -> Tensor:
    """As :func:`_by_rows`, without ever holding a whole row of logits.

    Twice the logits of all rows are formed for a block of columns, where a cache holds them: first
    for the normalisers, as online softmax has it (Milakov and Gimelshein 2018), then for the
    gradients. A third more multiplication than :func:`_by_rows` has, which units for bf16 make
    cheap, is paid for less memory; and the weight's gradient is touched once.
    """
    N, D = states.shape
    kept = targets != IGNORE  # (N,)
    column = targets.clamp_min(0) % COLUMNS  # (N,): of the right token, in its block
    first = targets - column  # (N,): where that block begins; of padding nowhere
    numbers = torch.arange(N)
    top = torch.full((N, 1), -torch.inf)
    normaliser, right_logit = torch.zeros(N, 1), torch.zeros(N)
    for part, logits in _columns_of_logits(states, weight):
        place = numbers, column.clamp_max(logits.shape[1] - 1)  # the last block is narrower
        right_logit = torch.where(first == part.start, logits[place].float(), right_logit)
        pieces = _in_fp32(logits), *(t.split(COLUMN_ROWS) for t in (top, normaliser))
        for block, before, sums in zip(*pieces, strict=True):  # (n, C), (n, 1), (n, 1)
            if softcap:
                block.div_(softcap).tanh_().mul_(softcap)
            most = torch.maximum(before, block.amax(-1, keepdim=True))
            sums.mul_(before.sub_(most).exp_())
            sums += block.sub_(most).exp_().sum(-1, keepdim=True)
            before.copy_(most)
    log_normaliser = normaliser.log() + top  # (N, 1)
    right_slope = torch.ones(N)  # of the cap, by which a gradient shrinks
    if softcap:
        right_logit.div_(softcap).tanh_()
        right_slope -= right_logit.square()
        right_logit.mul_(softcap)
    nats = log_normaliser[:, 0] - right_logit  # (N,)
    # Of a likely token bf16 would leave nothing of the probability less one.
    right_gradient = (nats.neg().expm1() * right_slope).to(weight.dtype)  # (N,)
    shift = log_normaliser.masked_fill(~kept[:, None], torch.inf)  # padding has no gradient
    total = torch.zeros(N, D)
    for part, logits in _columns_of_logits(states, weight):
        pieces = _in_fp32(logits), *(t.split(COLUMN_ROWS) for t in (shift, logits))
        for block, less, gradients in zip(*pieces, strict=True):  # (n, C), (n, 1), (n, C)
            if softcap:
                block.div_(softcap).tanh_()
                slope = 1 - block.square()  # (n, C)
                block.mul_(softcap).sub_(less).exp_().mul_(slope)
            else:
                block.sub_(less).exp_()
            gradients.copy_(block)
        place = numbers, column.clamp_max(logits.shape[1] - 1)
        logits[place] = torch.where(first == part.start, right_gradient, logits[place])
        added[part].add_(logits.t() @ states, alpha=scale)
        total += logits @ weight[part]
    grad_states.copy_(total.mul_(scale))
    return (nats * kept).sum() * scale


def _columns_of_logits(states: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """:data:`COLUMNS` tokens at a time and their logits (N, C), which the next overwrite."""
    memory = torch.empty(len(states) * COLUMNS, dtype=weight.dtype)
    for part in _slices(len(weight), COLUMNS):
        logits = memory[: len(states) * (part.stop - part.start)].view(len(states), -1)
        yield part, torch.mm(states, weight[part].t(), out=logits)


def _in_fp32(logits: Tensor) -> Iterator[Tensor]:
    """:data:`COLUMN_ROWS` rows of logits (N, C) at a time, copied to fp32."""
    memory = torch.empty(min(COLUMN_ROWS, len(logits)), logits.shape[1])
    for rows in logits.split(COLUMN_ROWS):
        yield memory[: len(rows)].copy_(rows)


def _loss_and_gradient_(logits: Tensor, targets: Tensor, scale: float, softcap: float) -> Tensor:
    """Replace logits (n, V) by the gradients of the loss in them; return that loss, summed."""
    logits32 = logits.float()  # (n, V): the logits' own memory if they are fp32
    if softcap:
        logits32.div_(softcap).tanh_()
        slope = 1 - logits32.square()  # (n, V): of the cap, by which all gradients shrink
        logits32.mul_(softcap)
    row_scale = (targets != IGNORE)[:, None] * scale  # (n, 1)
    right = targets.clamp_min(0)[:, None]  # (n, 1)
    right_logit = logits32.gather(1, right)  # (n, 1)
    top, normaliser = _exponentiate(logits32)  # (n, 1) each
    likely = logits32.gather(1, right) / normaliser  # (n, 1): probability of the right token
    logits32.mul_(row_scale / normaliser)  # (n, V): softmax
    place = torch.arange(len(right), device=right.device), right[:, 0]  # scatter_ visits all of V
    if logits.dtype == torch.float32:
        logits[place] -= row_scale[:, 0]  # minus one at the right token
    else:  # of a likely token bf16 would leave nothing
        logits.copy_(logits32)
        logits[place] = ((likely - 1) * row_scale)[:, 0].to(logits.dtype)
    if softcap:
        logits.mul_(slope)
    log_normaliser = normaliser.log() + top  # (n, 1)
    return ((log_normaliser - right_logit) * row_scale).sum()


def _exponentiate(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Replace fp32 logits (n, V) by exp(logits - top); return top and the sums, (n, 1) each."""
    top = logits.amax(-1, keepdim=True)  # (n, 1)
    return top, logits.sub_(top).exp_().sum(-1, keepdim=True)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left.T @ right for left (n, V) and right (n, D); the product is as exact as they."""
    if left.dtype == total.dtype:
        torch.addmm(total, left.t(), right, out=total)
        return
    most = BLOCK_ELEMENTS if left.device.type == "cpu" else ACCELERATOR_ELEMENTS
    for rows in _slices(len(total), most // right.shape[1]):  # no large (V, D) between
        total[rows] += left[:, rows].t() @ right


def _chunks_of_logits(states: Tensor, weight: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
    """``rows`` rows of ``states`` at a time and their logits (n, V), which the next overwrite."""
    rows = min(len(states), rows)
    buffer = torch.empty(rows, len(weight), dtype=weight.dtype, device=weight.device)  # (n, V)
    for part in _slices(len(states), rows):
        logits = buffer[: part.stop - part.start]  # (n, V)
        yield part, torch.mm(states[part], weight.t(), out=logits)


def _blocks_of_logits(states: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """As :func:`_chunks_of_logits`, but in the smaller blocks of a softmax."""
    chunk, block_rows = piece_rows(states.device.type, len(weight))
    for part, logits in _chunks_of_logits(states, weight, chunk):
        for block in _slices(len(logits), block_rows):
            yield slice(part.start + block.start, part.start + block.stop), logits[block]


def _slices(rows: int, size: int) -> Iterator[slice]:
    """``rows`` rows, ``size`` at a time, at least one."""
    size = max(1, size)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
