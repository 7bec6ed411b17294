"""From a question to the runs that answer it; refused before anything is trained if it is not fair.

The differences of every arm are read by the role that each setting declares: exactly one ``factor``
may differ (several only in an arm that says ``joint: true``), ``matched`` ones follow (or are the
choice themselves, see :data:`~mytnano.lab.settings.CHOICES_ALONE`), and of the ``nuisance`` ones
only the salt may, which makes an A/A twin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mytnano.config import RunConfig, semantics
from mytnano.designs.baselines import starting_design
from mytnano.designs.rungs import config_difference
from mytnano.errors import UserError
from mytnano.files import json_text, sha256_bytes
from mytnano.lab.combine import Candidate, candidates
from mytnano.lab.inert import changes_nothing
from mytnano.lab.match import equal_flops, equal_parameters, parameters, run_flops
from mytnano.lab.scale import label, resized
from mytnano.lab.settings import (
    BASELINES_ALONE,
    CHOICES_ALONE,
    changed,
    choices,
    differences,
)
from mytnano.lab.spec import BASELINE, INTERACTION, Spec
from mytnano.ladder.cells import Where
from mytnano.model.own import with_own_code
from mytnano.stats.eprocess import FEWEST, fewest_pairs
from mytnano.text.bpe import VocabularyTooLarge
from mytnano.training.contract import check_own
from mytnano.training.text import prepare, resolve

FROM = "from"
SALT = "train.salt"

LEAST_TOKENIZER_BYTES = 2**20
"""Of training text that a trained vocabulary learns from, unless its baseline asks for more."""


@dataclass(frozen=True)
class Arm:
    """One design of a question.

    Attributes:
        name: ``baseline`` (``all`` where one is left out), or the arm's.
        config: resolved and matched; learning rate and seed are still to be set.
        factors: settings of role ``factor`` that differ from the baseline's, as ``name: a -> b``.
        others: the same of the settings that follow.
        twin: differs in nothing but the salt.
    """

    name: str
    config: RunConfig
    factors: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    twin: bool = False

    @property
    def flops(self) -> float:
        return run_flops(self.config)

    @property
    def parameters(self) -> int:
        return parameters(self.config)


@dataclass(frozen=True)
class Plan:
    """The runs of a question, but for learning rates and seeds.

    Attributes:
        baseline: what the arms are held against.
        scales: the same question at other sizes, by label.
    """

    spec: Spec
    baseline: Arm
    arms: tuple[Arm, ...]
    scales: Mapping[str, Plan] = field(default_factory=dict)

    @property
    def every(self) -> tuple[Arm, ...]:
        """The baseline and all arms."""
        return (self.baseline, *self.arms)

    @property
    def interaction(self) -> bool:
        """Whether what all arms do beyond their sum is judged as well."""
        return self.spec.combine == INTERACTION

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.every if arm.name == name)

    @property
    def content(self) -> dict[str, Any]:
        """All that decides the answer, as plain values."""
        return {
            "semantics": semantics(self.baseline.config.train.precision),
            "spec": self.spec.model_dump(),
            "arms": {arm.name: arm.config.model_dump() for arm in self.every},
        } | ({"scales": {k: v.content for k, v in self.scales.items()}} if self.scales else {})

    @property
    def hash(self) -> str:
        """Twelve hex digits over all that decides the answer: fixed before the first run."""
        decisive = {
            "spec": self.spec.model_dump(exclude_defaults=True),
            "arms": {arm.name: arm.config.hash for arm in self.every},
        } | ({"scales": {k: v.hash for k, v in self.scales.items()}} if self.scales else {})
        return sha256_bytes(json_text(decisive).encode())[:12]


def make_plan(spec: Spec, where: Where) -> Plan:
    """Resolve, check and match every arm, at every size.

    Raises:
        UserError: an unknown design or setting, an arm that changes nothing or too much, or
            designs that cannot be matched.
    """
    _check_seeds(spec)
    start = _baseline(spec)
    plan = _planned(spec, start, where)
    if not spec.scales:
        return plan
    scales: dict[str, Plan] = {}
    for number, scale in enumerate(spec.scales, 1):
        name = label(number, scale)
        if name in scales:
            raise UserError(f"scales: {name} stands there twice: name each size once")
        try:
            scales[name] = _planned(*resized(spec, start, scale), where)
        except UserError as error:
            raise UserError(f"scale {name}: {error}") from None
    _check_sizes({BASELINE: plan, **scales})
    return replace(plan, scales=scales)


def _planned(spec: Spec, start: RunConfig, where: Where) -> Plan:
    name, origin, found = candidates(spec, start)
    baseline = Arm(name, _placed(origin, spec, where))
    arms = tuple(_arm(each, origin, baseline, spec, where) for each in found)
    return Plan(spec, baseline, arms)


def _check_sizes(plans: Mapping[str, Plan]) -> None:
    """A slope needs sizes whose compute differs."""
    seen: dict[float, str] = {}
    for name, plan in plans.items():
        other = seen.setdefault(plan.baseline.flops, name)
        if other != name:
            raise UserError(
                f"scale {name} is the same size as {other}, as widths are whole heads: choose a "
                "factor further from it, or settings"
            )


def _check_seeds(spec: Spec) -> None:
    needed = FEWEST if spec.fixed else fewest_pairs(spec.alpha / len(spec.judged))
    if spec.seeds < needed:
        raise UserError(
            f"{spec.seeds} seeds cannot decide at alpha {spec.alpha:g} between "
            f"{len(spec.judged)} arm(s) and the baseline, whatever they show: it takes {needed}"
        )


def _baseline(spec: Spec) -> RunConfig:
    if isinstance(spec.baseline, str):
        return starting_design(spec.baseline)
    changes = dict(spec.baseline)
    return changed(starting_design(str(changes.pop(FROM, "small"))), changes)


def _placed(design: RunConfig, spec: Spec, where: Where) -> RunConfig:
    """A design under the question's budget, on its text, on this machine, resolved."""
    learned = design.data.tokenizer.startswith("bpe:")
    read = max(spec.train_bytes, LEAST_TOKENIZER_BYTES, design.data.tokenizer_bytes)
    config = design.but(
        data={**where.text, "tokenizer_bytes": read if learned else 0},
        train={
            "train_bytes": spec.train_bytes,
            "precision": where.precision,
            "device": where.device,
            "test_bytes": spec.test_bytes,
            "validation_bytes": spec.validation_bytes,
            "curve_bytes": max(4096, spec.validation_bytes // 8),
        },
    )
    try:
        prepare(config.data, where.cache)
    except VocabularyTooLarge as error:  # a smaller one would not be what the arm is called
        raise UserError(f"{error}: ask for bpe:{error.smaller}, or give more text") from None
    resolved = with_own_code(resolve(config, where.cache))
    check_own(resolved)
    return resolved


def _arm(each: Candidate, start: RunConfig, baseline: Arm, spec: Spec, where: Where) -> Arm:
    try:
        design = each.design
        every, factors = differences(start, design), choices(start, design)
        twin = every == [SALT]
        nuisances = set() if twin else set(differences(start, design, "nuisance"))
        alone = [name for name in every if name in nuisances | BASELINES_ALONE]
        _check(factors, each.joint, twin, alone, each.wanted)
        placed = _placed(design, spec, where)
        if not twin and changes_nothing(baseline.config, placed):
            raise UserError(
                f"{', '.join(factors)} changes nothing in this design, which starts and trains "
                "alike to the last bit: change something that it uses"
            )
        _check_kept(factors, spec)
        config = _matched(placed, baseline, spec)
    except UserError as error:
        raise UserError(f"arm '{each.name}': {error}") from None
    others = [name for name in differences(baseline.config, config) if name not in factors]
    return Arm(
        each.name,
        config,
        _changes(factors, start, design),
        _changes(others, baseline.config, config),
        twin,
    )


def _check(
    factors: list[str], joint: object, twin: bool, alone: list[str], wanted: Mapping[str, Any]
) -> None:
    """Refuse an arm whose changes are not one design choice.

    Args:
        factors: names of the design choices that differ.
        joint: whether several choices are meant. twin: it is an A/A twin.
        alone: names of the settings that differ and may not.
        wanted: the arm's settings as given.
    """
    if not isinstance(joint, bool):
        raise UserError("joint must be true or false")
    if alone:
        raise UserError(
            f"{', '.join(alone)} must be the baseline's, or it would be part of the answer"
        )
    if not factors and not twin:
        what = f"only {', '.join(wanted)}, which is no design choice" if wanted else "nothing"
        raise UserError(f"it changes {what}: change one, such as ffn, norm or schedule")
    if len(factors) > 1 and not joint:
        raise UserError(
            f"it changes {len(factors)} design choices ({', '.join(factors)}), so their effects "
            "could not be told apart: change one, or say 'joint: true'"
        )


def _check_kept(factors: list[str], spec: Spec) -> None:
    """Refuse a size that the matching would undo."""
    sizes = [name for name in factors if name in CHOICES_ALONE]
    if sizes and spec.match == "parameters":
        raise UserError(
            f"{sizes[0]} is what match: parameters sets: use match: flops or match: bytes"
        )


def _matched(config: RunConfig, baseline: Arm, spec: Spec) -> RunConfig:
    if spec.match == "flops":
        return equal_flops(config, baseline.flops)
    if spec.match == "parameters":
        return equal_parameters(config, baseline.parameters)
    return config


def _changes(names: Sequence[str], one: RunConfig, other: RunConfig) -> tuple[str, ...]:
    """``model.ffn: gelu -> relu`` for each name."""
    found = config_difference(one, other)
    return tuple(f"{name}: {found[name][0]} -> {found[name][1]}" for name in names)
