"""What goes on inside: numbers that tell a healthy stack from one whose positions are all alike.

A network without residual paths loses its input through rank collapse (Dong et al. 2021): each
block pulls all positions towards one vector, so gradients to the early blocks vanish although
activations do not (Noci et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from mytnano.model.attention import attention_weights
from mytnano.model.mode import evaluating
from mytnano.model.transformer import Attention, Block, Transformer

MOST_WEIGHTS = 1 << 27
"""Attention weights that are formed at once, 0.5 GB in fp32; of more, some rows after the others.
It is above what any measured run had, whose sums would be added up in another order."""


@torch.no_grad()
def probe(model: Transformer, ids: Tensor, documents: Tensor | None = None) -> list[dict]:
    """Per block: distance from rank one, token cosine, activation RMS, attention entropy.

    Args:
        model: an fp32 model. ids: (B, T) inputs.
        documents: (B, T) from :func:`~mytnano.model.transformer.documents_of`, if they are kept
            apart.

    Returns:
        One dict a block, all means over the windows. ``attention_entropy`` is normalised by the log
        of the number of visible positions (1 = uniform) and is None for a block without attention.
    """
    rows: list[dict] = []
    visible = None if documents is None else visible_positions(documents)

    def record(block: Block, inputs: tuple, output: Tensor) -> None:
        x, tables = inputs
        entropy = None
        if isinstance(block.mixer, Attention):
            pre = block.mixer_norm is not None and block.norm_place != "post"
            q, k, _ = block.mixer.project(block.mixer_norm(x) if pre else x, tables)
            entropy = attention_entropy(q, k, tables.mask, visible)
        rows.append({**activity(output), "attention_entropy": entropy})

    hooks = [block.register_forward_hook(record) for block in model.blocks]
    try:
        with evaluating(model):  # as text is scored
            model.encode(*(table(ids) for table in model.lookups()), documents=documents)
    finally:
        for hook in hooks:
            hook.remove()
    return rows


def activity(x: Tensor) -> dict[str, float]:
    """Of activations x (B, T, D).

    ``rank_one_distance`` is ||X - 1 mean(X)|| / ||X|| in the Frobenius norm (0: all positions
    equal); ``token_cosine`` the mean cosine between two different positions of a window;
    ``activation_rms`` the root mean square entry.
    """
    x = x.float()
    T = x.shape[1]
    apart = x - x.mean(1, keepdim=True)  # (B, T, D)
    distance = apart.norm(dim=(1, 2)) / x.norm(dim=(1, 2)).clamp_min(1e-30)  # (B,)
    unit = x / x.norm(dim=-1, keepdim=True).clamp_min(1e-30)  # (B, T, D)
    total = unit.sum(1).square().sum(-1)  # (B,): all pairs, the T equal ones included
    cosine = (total - T) / (T * (T - 1))  # (B,)
    return {
        "rank_one_distance": distance.mean().item(),
        "token_cosine": cosine.mean().item(),
        "activation_rms": x.square().mean().sqrt().item(),
    }


def attention_entropy(
    q: Tensor, k: Tensor, mask: Tensor, visible: Tensor | None = None
) -> float | None:
    """:func:`normalised_entropy` of attention; of long windows in parts that fit into memory.

    Args:
        q, k: (B, H, T, K). mask: as of :func:`~mytnano.model.attention.attention_weights`.
        visible: as of :func:`normalised_entropy`.
    """
    B, H, T, _ = q.shape
    if B * H * T * T <= MOST_WEIGHTS:
        return normalised_entropy(attention_weights(q, k, mask), visible)
    rows = max(1, MOST_WEIGHTS // (H * T))
    windows = []
    for window in range(B):
        one = slice(window, window + 1)
        own = mask[one] if mask.ndim == 4 else mask  # (1, 1 or H, T, T), (H, T, T) or (T, T)
        parts = [
            entropies(attention_weights(q[one, :, here], k[one], own[..., here, :]))
            for here in (slice(first, first + rows) for first in range(0, T, rows))
        ]  # (1, H, rows) each
        windows.append(torch.cat(parts, -1))
    return over_visible(torch.cat(windows), visible)


def entropies(weights: Tensor) -> Tensor:
    """Entropy of each row of attention weights (B, H, Tq, Tk): (B, H, Tq), in nats."""
    return -(weights * weights.clamp_min(1e-30).log()).sum(-1)


def over_visible(entropy: Tensor, visible: Tensor | None) -> float | None:
    """Entropies (B, H, T) over their largest possible values, averaged.

    Arguments and result otherwise as of :func:`normalised_entropy`.
    """
    T = entropy.shape[-1]
    if visible is None:
        most = torch.arange(2, T + 1, device=entropy.device).log()  # (T-1,)
        return (entropy[..., 1:] / most).mean().item()
    share = entropy / visible.clamp_min(2).log()[:, None]  # (B, H, T)
    counted = (visible > 1)[:, None].expand_as(share)  # (B, H, T)
    return share[counted].mean().item() if counted.any() else None


def visible_positions(documents: Tensor) -> Tensor:
    """Positions of its document that each one sees, itself among them: (B, T) to (B, T)."""
    place = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)  # (B, T)
    begins = torch.ones_like(documents, dtype=torch.bool)  # (B, T)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return place - (place * begins).cummax(1).values + 1  # (B, T)


def normalised_entropy(weights: Tensor, visible: Tensor | None = None) -> float | None:
    """Mean entropy of causal attention rows (B, H, T, T) over ln(visible positions); 1 is uniform.

    Rows that see one position only are left out: the first one, or the first of each document.

    Args:
        visible: positions that each row sees (B, T), where documents are kept apart.

    Returns:
        None if no row sees more than one position.
    """
    return over_visible(entropies(weights), visible)


def block_norms(model: Transformer, tensors: Iterable[tuple[str, Tensor]]) -> list[float]:
    """Euclidean norm of named tensors (gradients, updates or weights) gathered per block."""
    squares = [0.0] * len(model.blocks)
    for name, tensor in tensors:
        if name.startswith("blocks."):
            squares[int(name.split(".")[1])] += gathered(tensor.float().square().sum())
    return [math.sqrt(s) for s in squares]


def gathered(total: Tensor) -> float:
    """A scalar on the host. Of a sum or norm over shards (a DTensor), whose ``item`` would be this
    rank's own part, it is that of the whole tensor."""
    return (total.full_tensor() if hasattr(total, "full_tensor") else total).item()
