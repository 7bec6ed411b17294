"""Tuned learning rates, and the written rules for using them elsewhere.

Each core rung has its own rate, found at budget ``quick`` by :mod:`mytnano.ladder.tune`; the
measured points are in ``learning_rates.json`` beside this file.

* Another budget: the rate times (bytes / quick bytes) ** -0.25. Longer runs want lower rates; the
  exponent was checked with three points at ``standard`` (results/tuning).
* A rung outside the core group: its parent's rate, unless the rung's own change sets one.
* A rung of an extended group: the rate that was tuned for it at the very budget, before its seeds;
  its parent's where a core rung's sweep shows that such a change leaves the rate where it was.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from mytnano.designs.rungs import KNOWN, ROOT, design
from mytnano.words import rounded

FILE = "learning_rates.json"
BYTES_EXPONENT = -0.25


@functools.cache
def shipped() -> dict[str, Any]:
    """The sweep file that comes with the package.

    ``{"train_bytes", "rungs": {id: {"lr", "flat", "points": [[lr, validation BPB], ...]}}, ...}``
    """
    return json.loads((resources.files("mytnano.designs") / FILE).read_text())


def learning_rate_for(
    id: str,
    train_bytes: int,
    sweep: dict[str, Any] | None = None,
    tuned: Mapping[str, float] | None = None,
) -> float:
    """The peak rate of a rung at a budget, three significant digits.

    Args:
        id: a rung.
        train_bytes: what the run trains on.
        sweep: another sweep file's content than the shipped one.
        tuned: rung of an extended group -> its rate, found at a budget of ``train_bytes``; a rung
            that is not there gets its parent's.
    """
    sweep = sweep or shipped()
    rung = KNOWN[id]
    own = design(id).optim.lr
    if rung.group != "core" and own != ROOT.optim.lr:
        return own
    while rung.group != "core":
        if tuned and rung.id in tuned:
            return tuned[rung.id]
        rung = KNOWN[rung.parent or "bigram"]
    entry = sweep["rungs"].get(rung.id)
    quick = entry["lr"] if entry else ROOT.optim.lr
    return rounded(quick * (train_bytes / sweep["train_bytes"]) ** BYTES_EXPONENT)
