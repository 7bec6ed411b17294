"""From runs to the question: which runs of each arm are held against which of the baseline.

Everything that could be compared wrongly is refused here, and everything that is chosen, or that a
reader must know to trust the comparison, becomes a note.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mytnano.errors import UserError
from mytnano.stats.differences import Pairs
from mytnano.stats.verdict import UNFIT
from mytnano.verdicts.table import Run

LEVEL = 1.05
"""Ratio between two neighbouring FLOPs from which on they are two levels of compute."""

MATCHED = 0.01
"""Share by which FLOPs may differ before it is said that they do."""

Seeds = dict[str, Run]


@dataclass(frozen=True)
class Side:
    """The runs of one arm that are compared: one level of compute, one learning rate.

    Attributes:
        runs: by seed, in ascending order.
        lr: the rate chosen, None if the file has none.
        tried: all rates of the arm at this level.
        flops: mean over the runs, None if the file has none.
        status: the worst of the runs'; empty if all are healthy.
    """

    name: str
    runs: Seeds
    lr: float | None
    tried: tuple[float, ...]
    flops: float | None

    @property
    def status(self) -> str:
        return next((s for s in UNFIT if any(r.status == s for r in self.runs.values())), "")

    @property
    def unfit(self) -> list[str]:
        """The seeds that are not healthy."""
        return [seed for seed, run in self.runs.items() if run.status]

    @property
    def early(self) -> bool:
        """Whether fewer seeds are no accident: the arm was decided, or failed."""
        return bool(self.status) or any(run.stopped for run in self.runs.values())

    def metrics(self, seeds: Sequence[str] | None = None) -> np.ndarray:
        """A value a seed, shape (seeds,); only of some seeds if given."""
        return np.array([self.runs[seed].metric for seed in (seeds or self.runs)])

    def mean(self, seeds: Sequence[str] | None = None) -> float:
        """Geometric mean of the metric, which differences of logarithms compare."""
        return math.exp(np.log(self.metrics(seeds)).mean())


@dataclass(frozen=True)
class Question:
    """What is asked of a file.

    Attributes:
        baseline: the levels of the baseline, by rising FLOPs; one if it has only one.
        arms: each arm with the level of the baseline that it is held against.
        notes: sentences for the reader.
    """

    baseline: list[Side]
    arms: list[tuple[Side, Side]]
    notes: list[str] = field(default_factory=list)

    def pairs(self) -> list[Pairs]:
        """What :func:`mytnano.stats.judge` takes."""
        return [
            Pairs(arm.name, arm.metrics(), arm.metrics(), arm.status)
            if arm.status  # whose values are not looked at, and whose seeds may be any
            else Pairs(
                arm.name, arm.metrics(), level.metrics(list(arm.runs)), ordered=in_order(arm.runs)
            )
            for arm, level in self.arms
        ]


def choose_baseline(names: Sequence[str], wanted: str | None) -> tuple[str, str]:
    """The baseline, and a note if nobody named it.

    Raises:
        UserError: there is no arm of that name, or only one arm.
    """
    if wanted is not None and wanted not in names:
        raise UserError(
            f"there is no arm '{wanted}' to be the baseline; the arms are {_listed(names)}"
        )
    if len(names) < 2:
        raise UserError(f"there is only one arm, '{names[0]}'; a verdict needs a second one")
    if wanted is not None:
        return wanted, ""
    if "baseline" in names:
        return "baseline", ""
    return names[0], (
        f"the baseline is {names[0]}, the first arm in the file, as none is called 'baseline'; "
        "choose another with --baseline"
    )


def choose_arms(
    names: Sequence[str], baseline: str, wanted: Sequence[str]
) -> tuple[list[str], str]:
    """The arms to judge, and a note if they are not all.

    Raises:
        UserError: an arm is unknown or is the baseline itself.
    """
    for name in wanted:
        if name not in names:
            raise UserError(f"there is no arm '{name}' to compare; the arms are {_listed(names)}")
        if name == baseline:
            raise UserError(f"'{name}' is the baseline, so it cannot be compared; name other arms")
    others = [name for name in names if name != baseline]
    chosen = [name for name in others if not wanted or name in wanted]
    if len(chosen) == len(others):
        return chosen, ""
    return chosen, (
        f"{len(chosen)} of {len(others)} arms are judged, and Holm's procedure counts only these; "
        "that is right if they were chosen before their results were seen"
    )


def build(
    runs: Sequence[Run], baseline: str, arms: Sequence[str], higher: bool, fixed: bool = False
) -> Question:
    """Choose learning rates, match compute, pair seeds.

    Args:
        runs: of the baseline and the arms.
        higher: whether a higher metric is better.
        fixed: the number of seeds was fixed, so no arm may have been stopped.

    Raises:
        UserError: a run stands twice, seeds are not paired, or the baseline is not healthy at an
            amount of compute that an arm is compared at.
    """
    every = [_side(group, higher) for group in _levels([r for r in runs if r.arm == baseline])]
    sides = [_arm(name, [run for run in runs if run.arm == name], higher) for name in arms]
    paired = [(side, _nearest(side, every)) for side in sides]
    for side, level in paired:
        if level.status:
            raise UserError(
                f"the baseline {baseline} is not healthy, as seed {', '.join(level.unfit)} is "
                f"{level.status}; choose another with --baseline"
            )
        _check_seeds(side, level, fixed)
    levels = [level for level in every if not level.status]
    compared = [level for level in levels if any(level is other for _, other in paired)]
    notes = [
        f"{baseline} at {level.flops:.3g} FLOPs is left out, as seed {', '.join(level.unfit)} is "
        f"{level.status}"
        for level in every
        if level.status
    ]
    notes += [*_rate_notes([*compared, *sides]), *_edge_notes([*levels, *sides], len(levels) > 1)]
    notes += [*_unfit_notes(sides), *_early_notes(paired), *_compute_notes(paired)]
    if not fixed:
        notes += _order_notes(sides)
    return Question(levels, paired, notes)


def _arm(name: str, runs: list[Run], higher: bool) -> Side:
    groups = _levels(runs)
    if len(groups) > 1:
        counts = ", ".join(f"{group[0].flops:.3g}" for group in groups)
        raise UserError(
            f"arm {name} has runs at {len(groups)} amounts of compute ({counts} FLOPs), which only "
            "the baseline may have; keep the rows of one"
        )
    return _side(groups[0], higher)


def _levels(runs: list[Run]) -> list[list[Run]]:
    """Runs by amount of compute; all together if the file does not say it."""
    ordered = sorted(runs, key=lambda run: run.flops or 0.0)
    groups: list[list[Run]] = []
    for run in ordered:
        near = groups and (run.flops or 1.0) <= LEVEL * (groups[-1][-1].flops or 1.0)
        if near:
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def _side(runs: list[Run], higher: bool) -> Side:
    """One arm at one level: its runs at its best learning rate."""
    by_rate: dict[float | None, Seeds] = {}
    for run in sorted(runs, key=lambda run: (run.lr or 0.0, seed_key(run.seed))):
        seeds = by_rate.setdefault(run.lr, {})
        if run.seed in seeds:
            lines = f"lines {seeds[run.seed].line} and {run.line}"
            raise UserError(f"{lines} are both {_named(run)}; remove one, or tell them apart by lr")
        seeds[run.seed] = run
    _check_rates(runs[0].arm, by_rate)
    lr = min(by_rate, key=lambda rate: _rate_key(by_rate[rate], higher))
    chosen = by_rate[lr]
    flops = [run.flops for run in chosen.values() if run.flops]
    tried = tuple(rate for rate in by_rate if rate is not None)
    return Side(runs[0].arm, chosen, lr, tried, float(np.mean(flops)) if flops else None)


def _named(run: Run) -> str:
    rate = f" at lr {run.lr:g}" if run.lr else ""
    return f"{run.arm}, seed {run.seed}{rate}"


def _check_rates(name: str, by_rate: dict[float | None, Seeds]) -> None:
    """A mean over other seeds is no reason to prefer a rate."""
    (first, seeds), *rest = by_rate.items()
    for rate, others in rest:
        if set(others) != set(seeds):
            raise UserError(
                f"{name} has seeds {_listed(seeds)} at lr {first:g} but {_listed(others)} at lr "
                f"{rate:g}; give every lr the same seeds, or keep only the rows of the chosen lr"
            )


def _rate_key(seeds: Seeds, higher: bool) -> tuple[int, float]:
    """Fewest unhealthy runs, then the best mean."""
    unfit = sum(bool(run.status) for run in seeds.values())
    values = [run.metric for run in seeds.values() if not run.status]
    mean = float(np.mean(values)) if values else 0.0
    return unfit, -mean if higher else mean


def _nearest(side: Side, levels: list[Side]) -> Side:
    """The baseline's level closest in compute; the only one where the file does not say."""
    if side.flops is None or any(level.flops is None for level in levels):
        if len(levels) > 1:
            raise UserError(
                f"the baseline has {len(levels)} amounts of compute, but {side.name} has no flops "
                "to choose among them; fill the column, or keep one amount"
            )
        return levels[0]
    spent = math.log(side.flops)
    return min(levels, key=lambda level: abs(math.log(level.flops or 1.0) - spent))


def in_order(seeds: Iterable[str]) -> bool:
    """Whether ascending seeds are whole numbers without a gap: the order in which they were run.

    Random numbers and names do not tell theirs, and what fills a gap later was not run before what
    stands behind it.
    """
    keys = [seed_key(seed) for seed in seeds]
    return all(key[0] == 0 for key in keys) and all(
        after[1] - before[1] == 1 for before, after in itertools.pairwise(keys)
    )


def _check_seeds(side: Side, level: Side, fixed: bool) -> None:
    if side.status:  # which is its verdict, whatever its seeds
        return
    lacking = [seed for seed in level.runs if seed not in side.runs]
    extra = [seed for seed in side.runs if seed not in level.runs]
    if not (lacking or extra) or (not extra and _stopped_early(side, level, fixed)):
        return
    parts = [f"{side.name} lacks {_listed(lacking)}"] * bool(lacking)
    parts += [f"{level.name} lacks {_listed(extra)}"] * bool(extra)
    raise UserError(
        f"{side.name} and the baseline {level.name} need the same seeds, but "
        f"{' and '.join(parts)}; run these, or remove their pairs"
    )


def _stopped_early(side: Side, level: Side, fixed: bool) -> bool:
    """Whether an arm has the baseline's first seeds and the file says why it has no more.

    The e-process may stop whenever it likes, so later pairs are not missed. A number of seeds that
    was fixed may not.
    """
    whole = all(seed_key(seed)[0] == 0 for seed in level.runs)  # numbers have an order of their own
    first = list(level.runs)[: len(side.runs)] == list(side.runs)
    return side.early and whole and first and not fixed


def seed_key(seed: str) -> tuple[int, int, str]:
    """Whole numbers by size, then names: an order that the rows of the file cannot change."""
    try:
        return 0, int(seed), ""
    except ValueError:
        return 1, 0, seed


def _listed(seeds: Iterable[str], most: int = 12) -> str:
    names = list(seeds)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _rate_notes(sides: list[Side]) -> list[str]:
    """What the choice of learning rates does to the verdicts."""
    if all(len(side.tried) < 2 for side in sides):
        return []
    notes = [
        "each arm's learning rate was chosen on the seeds that judge it, which flatters the arms "
        "that tried more rates; confirm the chosen rates on fresh seeds"
    ]
    if len({len(side.tried) for side in sides}) > 1:
        counts = ", ".join(f"{side.name} {len(side.tried)}" for side in sides)
        notes.append(f"the arms tried different numbers of learning rates: {counts}")
    return notes


def _edge_notes(sides: list[Side], several: bool) -> list[str]:
    """Arms whose best learning rate has no neighbour on one side, so may not be the best."""
    notes = []
    for side in sides:
        if len(side.tried) > 1 and side.lr in (min(side.tried), max(side.tried)):
            end = "largest" if side.lr == max(side.tried) else "smallest"
            where = f" at {side.flops:.3g} FLOPs" if several and side.flops else ""
            notes.append(
                f"the best learning rate of {side.name}{where}, {side.lr:g}, is the {end} that it "
                "tried; one beyond may be better"
            )
    return notes


def _unfit_notes(sides: list[Side]) -> list[str]:
    return [
        f"{len(side.unfit)} of {len(side.runs)} runs of {side.name} are not healthy: seed "
        f"{_listed(side.unfit)}"
        for side in sides
        if side.unfit
    ]


def _early_notes(paired: list[tuple[Side, Side]]) -> list[str]:
    return [
        f"{side.name} was decided after the first {len(side.runs)} of {len(level.runs)} seeds, so "
        f"later ones of {level.name} are not used for it"
        for side, level in paired
        if not side.status and len(side.runs) < len(level.runs)
    ]


def _order_notes(sides: list[Side]) -> list[str]:
    unknown = [side.name for side in sides if not side.status and not in_order(side.runs)]
    if not unknown:
        return []
    return [
        f"the seeds of {_listed(unknown)} are not whole numbers without a gap, so the order in "
        "which they were run is not known: only the look at all of them counts, not those before"
    ]


def _compute_notes(paired: list[tuple[Side, Side]]) -> list[str]:
    notes = []
    for side, level in paired:
        if side.flops and level.flops and abs(side.flops / level.flops - 1) > MATCHED:
            more = side.flops / level.flops - 1
            word = "more" if more > 0 else "fewer"
            notes.append(
                f"{side.name} was trained with {100 * abs(more):.3g} % {word} FLOPs than "
                f"{level.name}, so the two are not compared at equal compute"
            )
    return notes
