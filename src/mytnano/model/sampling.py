"""Text from a model, one token at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from mytnano.model.cache import Cache, why_no_cache
from mytnano.model.mode import evaluating
from mytnano.model.transformer import Transformer

COLDEST = 1e-6
"""Temperature below which the likeliest is taken: logits divided by less may overflow."""


class UnusableLogits(ValueError):
    """Nothing can be drawn from logits that are not finite."""


def draw(
    logits: Tensor,
    temperature: float,
    generator: torch.Generator,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> int:
    """One id from logits (V,); a temperature of 0, or next to it, takes the likeliest.

    Args:
        top_k: only among the so many likeliest; 0 is all (Fan et al. 2018).
        top_p: only among the likeliest that together reach this probability (Holtzman et al. 2020).
        min_p: only among those at least so many times as likely as the likeliest (Nguyen et al.
            2024).
    """
    if temperature < COLDEST:
        return int(logits.argmax())
    weights = (logits / temperature).softmax(-1)  # (V,)
    if 0 < top_k < len(weights):
        weights = weights * (weights >= weights.topk(top_k).values[-1])  # (V,)
    if top_p < 1:
        ordered, place = weights.sort(descending=True)  # (V,), (V,)
        before = ordered.cumsum(0) - ordered  # (V,)
        weights = weights.index_fill(0, place[before >= top_p * ordered.sum()], 0)  # (V,)
    if min_p > 0:
        weights = weights * (weights >= min_p * weights.max())  # (V,)
    return int(torch.multinomial(weights, 1, generator=generator))


@torch.no_grad()
def sample(
    model: Transformer,
    prompt: list[int],
    tokens: int,
    temperature: float = 0.8,
    seed: int = 0,
    vocabulary: int | None = None,
) -> list[int]:
    """Continue ``prompt`` by ``tokens`` ids drawn from the model's distribution at a temperature.

    Temperature 0 always takes the likeliest. Beyond ``model.config.context`` tokens the
    oldest are forgotten. Ids from ``vocabulary`` on are padding, and never drawn.

    Raises:
        UnusableLogits: they are not finite, as those of a model that diverged.
    """
    generator = torch.Generator().manual_seed(seed)
    device, context = next(model.parameters()).device, model.config.context
    ids = list(prompt)
    cache = Cache([len(ids)], context) if why_no_cache(model.config) is None else None
    with evaluating(model):
        for _ in range(tokens):
            if len(ids) > context:  # every token's position moves
                cache = None
            known = len(ids) - 1 if cache is not None and cache.started else -context
            window = torch.tensor([ids[known:]], device=device)  # (1, T)
            logits = model.head(model(window, cache)[0, -1]).float().cpu()  # (V,)
            if not logits[:vocabulary].isfinite().all():
                raise UnusableLogits
            ids.append(draw(logits[:vocabulary], temperature, generator))
    return ids[len(prompt) :]
