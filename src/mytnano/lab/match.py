"""What makes two designs comparable: equal training FLOPs, or equal parameters at equal bytes."""

from __future__ import annotations

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.model.skeleton import parameter_count
from mytnano.training.matching import run_flops, with_flops

CLOSE = 0.01
"""Largest relative difference in FLOPs or parameters that counts as matched."""


def parameters(config: RunConfig) -> int:
    """All parameters of a resolved run's model; a tied table counts once."""
    return parameter_count(config.model)


def equal_flops(arm: RunConfig, flops: float) -> RunConfig:
    """The arm with as many steps as make its training FLOPs ``flops``.

    Raises:
        UserError: whole steps cannot come that close.
    """
    matched = with_flops(arm, flops)
    if abs(run_flops(matched) / flops - 1) > CLOSE:
        raise UserError(
            f"the FLOPs can only be matched to {abs(run_flops(matched) / flops - 1):.0%}, as a run "
            f"has {matched.steps} steps: give more train_bytes, or match: bytes"
        )
    return matched


def equal_parameters(arm: RunConfig, wanted: int) -> RunConfig:
    """The arm with the feed-forward width that brings its parameters closest to ``wanted``.

    Raises:
        UserError: the arm has no feed-forward network, or no width comes within ``CLOSE``.
    """
    if abs(parameters(arm) / wanted - 1) <= CLOSE / 4:
        return arm
    if arm.model.ffn == "none" or not arm.model.layers:
        raise UserError(
            "parameters cannot be matched by the width of a feed-forward network that the arm "
            "does not have: use match: flops or match: bytes"
        )
    thin = parameters(arm.but(model={"ffn_width": 1}))
    per_unit = parameters(arm.but(model={"ffn_width": 2})) - thin
    if not per_unit:
        raise UserError(
            "parameters cannot be matched, as the arm's feed-forward network does not depend on "
            "ffn_width: use match: flops or match: bytes"
        )
    width = max(1, 1 + round((wanted - thin) / per_unit))
    matched = arm.but(model={"ffn_width": width})
    if abs(parameters(matched) / wanted - 1) > CLOSE:
        raise UserError(
            f"no feed-forward width gives {wanted:,} parameters (the closest, {width}, gives "
            f"{parameters(matched):,}): use match: flops or match: bytes"
        )
    return matched
