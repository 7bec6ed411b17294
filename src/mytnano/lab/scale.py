"""The same question at other sizes of the baseline: does the effect last as models grow?

Many changes help a small model and do nothing for a larger one (Narang et al. 2021; Wen et al.
2025). So the arms are held against smaller and larger baselines too. Each size tunes its own rates
and runs a number of seeds that is fixed beforehand, as seeds that stop when a difference shows
would make the effect look larger where it was lucky. :mod:`mytnano.stats.trend` says what the
effects do with compute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.lab.settings import changed, full_name
from mytnano.lab.spec import Spec

UNIT = 8
"""Widths are multiples of this, and of two channels a head, as RoPE turns pairs."""

LEAST_BYTES = 4096
FFN_WIDTH = "model.ffn_width"
TRAIN_BYTES = "train_bytes"
SETTINGS = ("width", "layers", "heads", "kv_heads", "ffn_width", TRAIN_BYTES)
"""What a size may set."""

Changes = Mapping[str, Any]


def label(number: int, scale: float | Changes) -> str:
    """``x0.25`` for a factor, ``size-2`` for settings; it begins the names of runs."""
    return f"size-{number}" if isinstance(scale, Mapping) else f"x{scale:g}"


def resized(spec: Spec, start: RunConfig, scale: float | Changes) -> tuple[Spec, RunConfig]:
    """The question at another size, and its baseline's design.

    A factor c of compute goes to parameters and text alike: the text grows by c^(1/2), and so do
    the parameters of a block, by widths that grow by c^(1/4) (Hoffmann et al. 2022: both in
    proportion). Layers and heads keep their number. Settings replace the baseline's; they are
    those of :data:`SETTINGS`, as another design is an arm and no size. An arm's own ``ffn_width``
    grows as the baseline's does.

    Raises:
        UserError: a setting that is no size, or does not fit.
    """
    changes = dict(scale) if isinstance(scale, Mapping) else _grown(start, scale, spec)
    for name in changes:
        if name.removeprefix("model.") not in SETTINGS:
            raise UserError(f"'{name}' is not a size; there are {', '.join(SETTINGS)}")
    size = changes.pop(TRAIN_BYTES, spec.train_bytes)
    if not isinstance(size, int) or size < LEAST_BYTES:
        raise UserError(f"{TRAIN_BYTES} must be a whole number of at least {LEAST_BYTES}")
    design = changed(start, changes)
    ratio = _ratio(start, design)
    arms = {
        name: {word: _follow(word, value, ratio) for word, value in wanted.items()}
        for name, wanted in spec.arms.items()
    }
    plain = {"scales": [], "multiplier": False, "prediction": {}}
    return spec.but(arms=arms, train_bytes=size, **plain), design


def _grown(start: RunConfig, factor: float, spec: Spec) -> dict[str, Any]:
    model = start.model
    unit = math.lcm(UNIT, 2 * model.heads)
    width = unit * max(1, round(model.width * factor**0.25 / unit))
    ffn = max(1, round(model.ffn_width * width / model.width)) if model.ffn_width else 0
    return {
        "width": width,
        "ffn_width": ffn,
        TRAIN_BYTES: max(LEAST_BYTES, round(spec.train_bytes * factor**0.5)),
    }


def _ratio(start: RunConfig, design: RunConfig) -> float:
    one, other = start.model, design.model
    if one.ffn_width and other.ffn_width:
        return other.ffn_width / one.ffn_width
    return other.width / one.width


def _follow(word: str, value: Any, ratio: float) -> Any:
    if word == "joint" or full_name(word) != FFN_WIDTH or not isinstance(value, int):
        return value
    return max(1, round(value * ratio)) if value else value
