"""Settings of a run by the names that people write: ``ffn``, or ``model.ffn``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import pydantic

from mytnano.config import Frozen, RunConfig, role
from mytnano.errors import UserError

SECTIONS: dict[str, type[Frozen]] = {
    name: field.annotation  # type: ignore[misc]
    for name, field in RunConfig.model_fields.items()
}
FIXED = {
    "data.fingerprint", "data.corpus", "data.split", "data.test_file", "model.vocab_size",
    "model.context", "model.own_code", "optim.own_code", "optim.lr", "train.seed",
    "train.train_bytes", "train.device", "train.precision", "train.score_test",
    "train.test_bytes", "train.validation_bytes", "train.curve_bytes",
}  # fmt: skip
"""Settings that the lab sets itself: the text, the budget, the seeds, the tuned rates."""


BASELINES_ALONE = {
    "data.window_bytes", "data.tokenizer_bytes", "train.batch_windows", "train.evaluations",
    "model.width",
}  # fmt: skip
"""Sizes that a baseline may choose, and that an arm must share: context, steps, model size."""


def full_name(name: str) -> str:
    """``ffn`` -> ``model.ffn``; a full name is itself.

    Raises:
        UserError: no such setting, one that the lab sets itself, or a name of several.
    """
    known = [
        f"{section}.{field}" for section, kind in SECTIONS.items() for field in kind.model_fields
    ]
    found = [full for full in known if name in (full, full.partition(".")[2])]
    if not found:
        short = [full.partition(".")[2] for full in known]
        near = difflib.get_close_matches(name, [*known, *short], 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see src/mytnano/config.py"
        raise UserError(f"'{name}' is not a setting; {hint}")
    if len(found) > 1:
        raise UserError(f"'{name}' may be {' or '.join(found)}: write one of them")
    if found[0] in FIXED:
        raise UserError(f"{found[0]} is set by the lab and cannot differ between arms")
    return found[0]


def changed(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """The config with settings changed by name.

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
        raise UserError(f"{place or 'the design'}: {first['msg']}") from None


def differences(one: RunConfig, other: RunConfig, wanted: str | None = None) -> list[str]:
    """Full names of the settings in which two configs differ; only those of a role if given."""
    return [
        f"{section}.{field}"
        for section, kind in SECTIONS.items()
        for field in kind.model_fields
        if getattr(getattr(one, section), field) != getattr(getattr(other, section), field)
        and wanted in (None, role(kind, field))
    ]
