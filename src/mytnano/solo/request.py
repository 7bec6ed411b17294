"""What a user asks of ``mytnano train``, and how two requests differ."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mytnano.config import DataConfig, RunConfig
from mytnano.designs.recipes import DEFAULT_SIZE
from mytnano.designs.scale import SCALE

ASKED = {"recipe": "recipe"} | {
    name: f"--{name.replace('_', '-')}"
    for name in ("size", "corpus", "split", "test_file", "minutes", "tokens", "bytes", "device",
                 "precision")
}  # fmt: skip
"""What a user calls a field of :class:`Request`."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        recipe, size: names in :mod:`mytnano.designs.recipes`; no size is the smallest.
        data: corpus, split and test file; the other fields are the recipe's.
        minutes, tokens, bytes: at most one: wall clock all in, or text to train on.
        changes: full names of settings -> values as text; they win over every rule.
        device, precision: by name, or ``auto``.
        began: when the minutes started to count, in seconds since 1970; no part of what was asked.
    """

    recipe: str = "mytnano"
    size: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    minutes: float | None = None
    tokens: int | None = None
    bytes: int | None = None
    changes: dict[str, str] = field(default_factory=dict)
    device: str = "auto"
    precision: str = "auto"
    began: float = field(default_factory=time.time)

    def as_json(self) -> dict[str, Any]:
        text = {name: getattr(self.data, name) for name in ("corpus", "split", "test_file")}
        values = asdict(self) | {"data": text}
        values["size"] = self.size_named
        del values["began"]
        return values

    @property
    def whole(self) -> RunConfig | None:
        """The recipe, if it is one that brings its own size, batch, rate and length."""
        return SCALE.get(self.recipe)

    @property
    def sharded(self) -> bool:
        """Whether it runs on the sharded engine whatever the number of ranks."""
        return self.whole is not None

    @property
    def size_named(self) -> str | None:
        """The size that was named or is meant; None for a recipe with a size of its own."""
        return None if self.whole else self.size or DEFAULT_SIZE

    @property
    def name(self) -> str:
        """``mytnano-nano``, ``mytllm-1b``: for folders and titles."""
        return self.recipe if self.whole else f"{self.recipe}-{self.size_named}"

    @property
    def seconds_so_far(self) -> float:
        return time.time() - self.began


def differences(asked: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """What differs between two requests as JSON, by the user's names: ``seed 2, there unset``."""
    one, other = _by_name(asked), _by_name(there)
    return [
        f"{name} {_shown(one.get(name))}, there {_shown(other.get(name))}"
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    ]


def _by_name(request: Mapping[str, Any]) -> dict[str, Any]:
    values = {**request, **request.get("data", {})}
    options = {shown: values.get(name) for name, shown in ASKED.items()}
    changes = request.get("changes", {})
    return options | {name.partition(".")[2]: value for name, value in changes.items()}


def _shown(value: object) -> str:
    return "unset" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
