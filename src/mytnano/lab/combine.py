"""Several choices together: what all of them do, what each is worth in the company of the others.

A choice that helps alone may do nothing beside another one. So the choices are added to the
baseline one at a time, taken from the whole one at a time, and what the whole does beyond the sum
of the single effects is their interaction. An ablation from the winner and one from the baseline
differ by just that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.lab.settings import changed, choices, full_name
from mytnano.lab.spec import ALL, BASELINE, JOINT, WITHOUT, Spec

Changes = Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """An arm to be planned.

    Attributes:
        name: of the arm.
        design: the baseline's design with its changes; no budget or text yet.
        wanted: its settings as written, for messages.
        joint: whether it may change several design choices; anything but a truth value is a
            mistake that the plan names.
    """

    name: str
    design: RunConfig
    wanted: Changes
    joint: object


def candidates(spec: Spec, start: RunConfig) -> tuple[str, RunConfig, list[Candidate]]:
    """Name and design that all is held against, and the arms.

    Args:
        start: the baseline's design.

    Raises:
        UserError: an unknown setting, or arms that cannot be put together.
    """
    single = [_single(name, changes, start) for name, changes in spec.arms.items()]
    if spec.combine == "none":
        return BASELINE, start, single
    for each in single:
        _check_single(each, start)
    whole = changed(start, _merged(spec, spec.arms))
    if spec.combine == "leave-one-out":
        rest = {left: [name for name in spec.arms if name != left] for left in spec.arms}
        out = [
            Candidate(WITHOUT + left, changed(start, _merged(spec, names)), spec.arms[left], False)
            for left, names in rest.items()
        ]
        return ALL, whole, out
    return BASELINE, start, [*single, Candidate(ALL, whole, _merged(spec, spec.arms), True)]


def _single(name: str, changes: Changes, start: RunConfig) -> Candidate:
    wanted = dict(changes)
    joint = wanted.pop(JOINT, False)
    try:
        return Candidate(name, changed(start, wanted), wanted, joint)
    except UserError as error:
        raise UserError(f"arm '{name}': {error}") from None


def _check_single(each: Candidate, start: RunConfig) -> None:
    if each.joint:
        raise UserError(
            f"arm '{each.name}' says joint, but combine needs arms of one design choice each: "
            "split it, or leave combine out"
        )
    factors = choices(start, each.design)
    if len(factors) != 1:
        named = f" ({', '.join(factors)})" if factors else ""
        raise UserError(
            f"arm '{each.name}': it changes {len(factors)} design choices{named}, but combine "
            "needs arms of one each"
        )


def _merged(spec: Spec, names: Any) -> dict[str, Any]:
    """The settings of several arms as one.

    Raises:
        UserError: two arms give a setting different values.
    """
    merged: dict[str, Any] = {}
    owner: dict[str, str] = {}
    for name in names:
        for word, value in spec.arms[name].items():
            if word == JOINT:
                continue
            setting = full_name(word)
            if merged.setdefault(setting, value) != value:
                raise UserError(
                    f"arms '{owner[setting]}' and '{name}' both set {setting}, so they cannot be "
                    "combined: leave one out"
                )
            owner.setdefault(setting, name)
    return merged
