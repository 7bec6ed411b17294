"""A design's model for its shapes alone, and how many parameters it has."""

from __future__ import annotations

import torch

from mytnano.config import ModelConfig
from mytnano.model.own import references
from mytnano.model.transformer import Transformer


def skeleton(config: ModelConfig, values: bool = False) -> Transformer:
    """The model on the meta device, which takes no memory, whatever its size.

    One with users' modules is built on the CPU: they may compute with values while they are made,
    which meta tensors do not have.

    Args:
        values: on the CPU in any case.

    Raises:
        UserError: a user's module cannot be made.
    """
    with torch.device("cpu" if values or references(config) else "meta"):
        return Transformer(config)


def parameter_count(config: ModelConfig) -> int:
    """All parameters of a design; a tied table counts once.

    Raises:
        UserError: a user's module cannot be made.
    """
    return sum(p.numel() for p in skeleton(config).parameters())
