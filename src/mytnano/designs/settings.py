"""Settings of a run by the names that people write: ``ffn``, or ``model.ffn``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pydantic

from mytnano.config import Frozen, RunConfig
from mytnano.errors import UserError

SECTIONS: dict[str, type[Frozen]] = {
    name: field.annotation  # type: ignore[misc]
    for name, field in RunConfig.model_fields.items()
}


ALIASES = {
    "learning_rate": "lr", "max_lr": "lr", "n_layer": "layers", "n_layers": "layers",
    "num_layers": "layers", "n_head": "heads", "n_heads": "heads", "num_heads": "heads",
    "n_embd": "width", "d_model": "width", "hidden_size": "width", "batch_size": "batch_windows",
    "block_size": "window_bytes",
}  # fmt: skip
"""What other programs call a setting."""

LENGTHS = {"max_iters", "steps", "max_steps", "train_steps", "minutes", "tokens", "bytes"}
"""What is no setting, as the length of a run follows from its text."""


def known_as(name: str) -> str | None:
    """The setting of that name, here or in another program; None if there is none."""
    name = ALIASES.get(name, name)
    try:
        full_name(name)
    except UserError:
        return None
    return name


def full_name(name: str, alike: Collection[str] = ()) -> str:
    """``ffn`` -> ``model.ffn``; a full name is itself.

    Args:
        alike: full names between which the caller need not choose, as it treats them alike.

    Raises:
        UserError: no such setting, or a name of several.
    """
    known = [
        f"{section}.{field}" for section, kind in SECTIONS.items() for field in kind.model_fields
    ]
    found = [full for full in known if name in (full, full.partition(".")[2])]
    if not found:
        short = [full.partition(".")[2] for full in known]
        near = difflib.get_close_matches(name, [*known, *short], 3)
        near = [ALIASES[name]] if name in ALIASES else near
        hint = f"did you mean {' or '.join(near)}?" if near else "docs/settings.md lists them"
        if name in LENGTHS:
            hint = "the length of a run is --tokens, --bytes or --minutes"
        raise UserError(f"'{name}' is not a setting; {hint}")
    if len(found) > 1 and not set(alike).issuperset(found):
        raise UserError(f"'{name}' may be {' or '.join(found)}: write one of them")
    return found[0]


def changed(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """The config with settings changed by name; values may be text, as from a command line.

    Raises:
        UserError: an unknown setting, or a value that does not fit it.
    """
    sections: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        section, _, field = full_name(name).partition(".")
        sections.setdefault(section, {})[field] = value
    try:
        return config.but(**sections)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][:2]))  # beyond are the kinds that it might be
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{place or 'the design'}: {message}") from None


def assignments(words: Sequence[str]) -> dict[str, str]:
    """``["lr=1e-3"]`` -> ``{"optim.lr": "1e-3"}``; the last of several for one setting counts.

    Raises:
        UserError: a word is not NAME=VALUE, or names no setting.
    """
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals):
            raise UserError(f"'{word}' is not NAME=VALUE, such as lr=1e-3")
        found[full_name(name)] = text
    return found


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}

_AMOUNT = re.compile(
    r"([0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9_]*\.?[0-9]+(?:e[0-9]+)?)([kmgbt]?)"
)
"""Commas stand between thousands only: to half the world 1,5 is one and a half."""


def amount(text: str, option: str) -> int:
    """``20M`` -> 20,000,000; units are k, M, G or B (a billion), and T.

    Raises:
        UserError: it is no positive number; ``option`` names it in the sentence.
    """
    match = _AMOUNT.fullmatch(text.strip().lower())
    try:
        digits = match[1].replace(",", "") if match else "0"
        value = float(digits) * UNITS[match[2] if match else ""]
    except ValueError:
        value = 0.0
    if not 1 <= value < 1e18:
        raise UserError(
            f"{option} {text} is not a number from 1 to below 1e18; try 500k, 20M or 1.5B"
        )
    return round(value)
