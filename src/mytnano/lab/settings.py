"""Which settings an arm may change, and in which two designs differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mytnano.config import RunConfig, role
from mytnano.designs import settings
from mytnano.designs.rungs import config_difference
from mytnano.designs.settings import SECTIONS
from mytnano.errors import UserError

FIXED = {
    "data.fingerprint", "data.end_of_document", "data.corpus", "data.split", "data.test_file",
    "model.vocab_size", "model.context", "model.own_code", "optim.own_code", "optim.lr",
    "train.seed",
    "train.train_bytes", "train.device", "train.precision", "train.score_test",
    "train.test_bytes", "train.validation_bytes", "train.curve_bytes",
}  # fmt: skip
"""Settings that the lab sets itself: the text, the budget, the seeds, the tuned rates."""


BASELINES_ALONE = {
    "data.window_bytes", "data.tokenizer_bytes", "train.batch_windows", "train.evaluations",
    "model.width",
}  # fmt: skip
"""Sizes that a baseline may choose, and that an arm must share: context, steps, model size."""


CHOICES_ALONE = {"model.ffn_width"}
"""Sizes that follow a design choice, and are one themselves in an arm that makes no other."""


def full_name(name: str) -> str:
    """As :func:`mytnano.designs.settings.full_name`, and refuses what the lab sets itself."""
    full = settings.full_name(name, FIXED)
    if full in FIXED:
        raise UserError(f"{full} is set by the lab and cannot differ between arms")
    return full


def changed(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """As :func:`mytnano.designs.settings.changed`, and refuses what the lab sets itself.

    Raises:
        UserError: as there, or a setting is given twice, by its short and its full name.
    """
    full: dict[str, Any] = {}
    for name, value in changes.items():
        if full_name(name) in full:
            raise UserError(f"{full_name(name)} is given twice: give it once")
        full[full_name(name)] = value
    return settings.changed(config, full)


def differences(one: RunConfig, other: RunConfig, wanted: str | None = None) -> list[str]:
    """Full names of the settings in which two configs differ; only those of a role if given."""
    return [name for name in config_difference(one, other) if wanted in (None, _role(name))]


def _role(name: str) -> str:
    section, _, field = name.partition(".")
    return role(SECTIONS[section], field)


def choices(one: RunConfig, other: RunConfig) -> list[str]:
    """Full names of the design choices in which two configs differ."""
    factors = differences(one, other, "factor")
    return factors or [name for name in differences(one, other) if name in CHOICES_ALONE]
