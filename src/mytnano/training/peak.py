"""How fast the machine could multiply matrices, to say what share of it a run used.

On a CPU the peak is measured: the best of a second of large products in the working precision. On a
GPU the convention is the published peak (model FLOPs utilisation, Chowdhery et al. 2022); for one
that is not in the table nothing is claimed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from mytnano.measure.devices import device_named

SECONDS = 1.0
PRODUCT = 1024
"""Rows and columns of the products: large enough for the best speed of a few cores."""


@dataclass(frozen=True)
class Peak:
    """Operations a second, and where the number comes from; None if there is none to trust."""

    flops: float | None
    source: str


def peak(device: str, precision: str) -> Peak:
    """The peak of the device that runs are made on, with as many threads as they use."""
    if device == "cpu":
        return Peak(measured_peak(precision), f"measured {precision} matrix product")
    if device == "cuda":
        return published_peak(torch.cuda.get_device_name(), precision)
    return Peak(None, f"no published peak for {device}")


def published_peak(name: str, precision: str) -> Peak:
    """By the name that the driver gives; only for bf16."""
    if precision != "bf16":
        return Peak(None, f"the published peaks are for bf16, and this run is {precision}")
    device = device_named(name)
    if device is None:
        return Peak(None, f"no bf16 peak is known of '{name}'")
    return Peak(device.flops, f"published dense bf16 peak of {device.name}")


def measured_peak(precision: str, seconds: float = SECONDS) -> float:
    """Operations a second of the quickest of many products on the CPU."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.ones(2, PRODUCT, PRODUCT, dtype=dtype)  # (N, N) each
    out = torch.empty(PRODUCT, PRODUCT, dtype=dtype)  # (N, N)
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        now = time.perf_counter()
        best = min(best, now - started)
        if now >= end:
            return 2 * PRODUCT**3 / best
