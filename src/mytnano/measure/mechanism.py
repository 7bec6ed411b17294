"""What goes on inside: numbers that tell a healthy stack from one whose positions are all alike.

A network without residual paths loses its input through rank collapse (Dong et al. 2021): each
block pulls all positions towards one vector, so gradients to the early blocks vanish although
activations do not (Noci et al. 2022).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mytnano.model.attention import attention_weights
from mytnano.model.mode import evaluating
from mytnano.model.transformer import Attention, Block, Transformer


@torch.no_grad()
def probe(model: Transformer, ids: Tensor) -> list[dict]:
    """Per block: distance from rank one, token cosine, activation RMS, attention entropy.

    Args:
        model: an fp32 model. ids: (B, T) inputs.

    Returns:
        One dict a block, all means over the windows. ``attention_entropy`` is normalised by the log
        of the number of visible positions (1 = uniform) and is None for a block without attention.
    """
    rows: list[dict] = []

    def record(block: Block, inputs: tuple, output: Tensor) -> None:
        x, tables = inputs
        entropy = None
        if isinstance(block.mixer, Attention):
            pre = block.mixer_norm is not None and block.norm_place != "post"
            q, k, _ = block.mixer.project(block.mixer_norm(x) if pre else x, tables)
            entropy = normalised_entropy(attention_weights(q, k, tables.mask))
        rows.append({**activity(output), "attention_entropy": entropy})

    hooks = [block.register_forward_hook(record) for block in model.blocks]
    try:
        with evaluating(model):  # as text is scored
            model(ids)
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


def normalised_entropy(weights: Tensor) -> float:
    """Mean entropy of causal attention rows (B, H, T, T) over ln(visible positions); 1 is uniform.

    The first row sees one position only and is left out.
    """
    T = weights.shape[-1]
    entropy = -(weights * weights.clamp_min(1e-30).log()).sum(-1)[..., 1:]  # (B, H, T-1)
    most = torch.arange(2, T + 1, device=weights.device).log()  # (T-1,)
    return (entropy / most).mean().item()


def block_norms(model: Transformer, tensors: dict[str, Tensor]) -> list[float]:
    """Euclidean norm of named tensors (gradients, updates or weights) gathered per block."""
    squares = [0.0] * len(model.blocks)
    for name, tensor in tensors.items():
        if name.startswith("blocks."):
            squares[int(name.split(".")[1])] += gathered(tensor.float().square().sum())
    return [math.sqrt(s) for s in squares]


def gathered(total: Tensor) -> float:
    """A scalar on the host. Of a sum or norm over shards (a DTensor), whose ``item`` would be this
    rank's own part, it is that of the whole tensor."""
    return (total.full_tensor() if hasattr(total, "full_tensor") else total).item()
