"""What a rung is, and the changes that most of them are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from mytnano.config import RunConfig

Change = Callable[[RunConfig], RunConfig]


@dataclass(frozen=True)
class Logged:
    """What the original log said of a rung: nats per token, and accuracy where it gave one."""

    name: str
    loss: float
    accuracy: float | None = None
    claim: str = ""


@dataclass(frozen=True)
class Rung:
    """One design.

    Attributes:
        id: the name used on the command line and in results.
        title: a few words for tables.
        parent: id of the rung that ``change`` starts from; None for the root.
        change: the one difference.
        why: what the change is for, in a sentence.
        paper: where the idea was published.
        logged: the log's row, if it has one.
        group: ``core``, ``as-logged``, ``depth``, ``long``, or an extended one, see
            :mod:`mytnano.designs.groups`.
        code: functions or classes that the change switches on, for ``mytnano explain``.
        like: of a rung in an extended group: the core rung whose sweep shows that a change of this
            kind leaves the best learning rate where it was; without one the rate is tuned.
        batch_windows: windows of a step, where that is the change.
        epochs: how often the run reads its text, of which there is then less by that factor.
        equal_flops: id of the rung whose training FLOPs this one is given, by its bytes.
    """

    id: str
    title: str
    parent: str | None
    change: Change
    why: str
    paper: str = ""
    logged: Logged | None = None
    group: str = "core"
    code: tuple[str, ...] = field(default=())
    like: str | None = None
    batch_windows: int | None = None
    epochs: int = 1
    equal_flops: str | None = None


def swiglu_width(width: int) -> int:
    """8/3 of the width, up to a multiple of 8: three matrices match two of 4 x width."""
    return 8 * math.ceil(width / 3)


def model(**changes: object) -> Change:
    """A change of model settings."""
    return lambda config: config.but(model=changes)


def tokenizer(name: str) -> Change:
    """A change of vocabulary."""
    return lambda config: config.but(data={"tokenizer": name})


def optim(**changes: object) -> Change:
    """A change of optimizer settings."""
    return lambda config: config.but(optim=changes)
