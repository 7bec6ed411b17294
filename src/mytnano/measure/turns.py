"""Contestants that are timed in turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)


def in_turns(
    contestants: Mapping[Name, Callable[[], float]], rounds: int, warm: int = 1
) -> dict[Name, list[float]]:
    """Call every contestant once a round, and collect what it returns.

    Args:
        contestants: name -> a call that returns its seconds, or another figure; see
            :func:`clocked`.
        rounds: that count. warm: rounds before them whose figures are dropped.

    Returns:
        Name -> a value a round.
    """
    found: dict[Name, list[float]] = {name: [] for name in contestants}
    for number in range(warm + rounds):
        for name, measure in contestants.items():
            value = measure()
            if number >= warm:
                found[name].append(value)
    return found


def clocked(task: Callable[[], object]) -> Callable[[], float]:
    """The task as a contestant of :func:`in_turns`: a call that returns its seconds."""

    def seconds() -> float:
        started = time.perf_counter()
        task()
        return time.perf_counter() - started

    return seconds


def wait(device: str) -> None:
    """Until the device, ``cpu``, ``cuda`` or ``mps``, has done all that it was given."""
    if device != "cpu":
        getattr(torch, device).synchronize()
