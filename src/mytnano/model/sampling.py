"""Text from a model, one token at a time."""

from __future__ import annotations

import torch

from mytnano.model.transformer import Transformer


@torch.no_grad()
def sample(
    model: Transformer, prompt: list[int], tokens: int, temperature: float = 0.8, seed: int = 0
) -> list[int]:
    """Continue ``prompt`` by ``tokens`` ids drawn from the model's distribution at a temperature.

    Temperature 0 always takes the likeliest. Beyond ``model.config.context`` tokens the
    oldest are forgotten.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    ids = list(prompt)
    model.eval()
    for _ in range(tokens):
        window = torch.tensor([ids[-model.config.context :]], device=device)  # (1, T)
        logits = model.head(model(window)[0, -1]).float().cpu()  # (V,)
        if temperature == 0:
            ids.append(int(logits.argmax()))
        else:
            weights = (logits / temperature).softmax(-1)  # (V,)
            ids.append(int(torch.multinomial(weights, 1, generator=generator)))
    model.train()
    return ids[len(prompt) :]
