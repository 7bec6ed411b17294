"""From the host's memory to a device without waiting for it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def moved(tensor: Tensor, device: str | torch.device) -> Tensor:
    """A tensor on a device; to a GPU through pinned memory without gaps, as a copy from any other
    waits for everything that was asked of the GPU before."""
    if torch.device(device).type == "cuda":
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return pinned.copy_(tensor).to(device, non_blocking=True)
    return tensor.to(device)


def on_device(arrays: Iterable[np.ndarray], device: str | torch.device) -> tuple[Tensor, ...]:
    """Arrays as tensors on a device, in their order."""
    return tuple(moved(torch.from_numpy(array), device) for array in arrays)
