"""The sweeps behind the ladder's choices: learning rates, and the size of the trained BPE."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from mytnano.config import RunConfig, semantics
from mytnano.designs.budgets import WHOLE_TEXT, Budget, apply
from mytnano.designs.rates import FILE, learning_rate_for
from mytnano.designs.rungs import BEST_BPE, CORE, KNOWN, ROOT, Rung, design
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.ladder.cells import Where, placed, supported_tokenizer, with_best_bpe
from mytnano.ladder.trials import Trials
from mytnano.ladder.tune import BASE, START, Tuned, search
from mytnano.runs.jobs import Job

SEEDS = (1000,)
"""Seeds of the sweeps, which no ladder run uses: a choice made on a seed flatters that seed."""

VOCABULARY_FILE = "vocabulary.json"
VOCABULARIES = ("bpe:512", "bpe:1024", "bpe:2048", "bpe:4096", "bpe:8192")


@dataclass(frozen=True)
class Sweep:
    """How sweeps are carried out.

    ``speed`` is the machine's tokens/s on :data:`~mytnano.training.precision.PROBE`.
    """

    where: Where
    budget: Budget
    workers: int
    speed: float
    console: Console

    def rates(
        self, ids: Sequence[str], starts: Mapping[str, Sequence[int]] | None = None
    ) -> dict[str, Tuned]:
        """Tune the learning rate of rungs; ``starts`` are as in :func:`search`."""
        return search(ids, self.trials().measure, starts)

    def vocabularies(self) -> dict[str, Tuned]:
        """Tune the learning rate of each BPE size that the text supports."""
        return search(self._supported(), self._sizes().measure)

    def jobs_at(self, id: str, exponents: Sequence[int] = START) -> list[Job]:
        """The runs of a rung at some rates of the grid."""
        return [self.trials().job(id, e, seed) for e in exponents for seed in SEEDS]

    def vocabulary_jobs(self) -> dict[str, list[Job]]:
        """The runs with which the search of each BPE size begins."""
        trials = self._sizes()
        return {
            size: [trials.job(size, e, seed) for e in START for seed in SEEDS]
            for size in self._supported()
        }

    def design_hash(self, id: str) -> str:
        """Stands for all of a rung's search but the rates: design, budget, text, machine, seed."""
        return self.trials().resolved(id, BASE, SEEDS[0]).hash

    def trials(self) -> Trials:
        """Runs of rungs, by id."""
        return self._trials(self._config)

    def _sizes(self) -> Trials:
        """Runs of the rung ``bpe`` with another size, by the tokenizer's name."""
        return self._trials(lambda size, lr, seed: self._config("bpe", lr, seed, size))

    def _trials(self, config: Callable[[str, float, int], RunConfig]) -> Trials:
        return Trials(config, SEEDS, self.where, self.workers, self.speed, self.console)

    def _supported(self) -> list[str]:
        base = apply(design("bpe"), self.budget, KNOWN["bpe"].group).data.but(**self.where.text)
        answers = (
            supported_tokenizer(base.but(tokenizer=size), self.where.cache) for size in VOCABULARIES
        )
        return list(dict.fromkeys(name for name, _ in answers))

    def _config(self, id: str, lr: float, seed: int, tokenizer: str = "") -> RunConfig:
        config = design(id).but(optim={"lr": lr}, train={"seed": seed})
        rung = KNOWN[id]
        if tokenizer:
            config = config.but(data={"tokenizer": tokenizer})
        else:
            config = with_best_bpe(config, rung, self.where)
        return placed(config, self.budget, rung, self.where)


def as_json(tuned: dict[str, Tuned], sweep: Sweep, environment: dict) -> dict[str, Any]:
    """The content of a sweep file."""
    return {
        "semantics": semantics(sweep.where.precision),
        "train_bytes": sweep.budget.train_bytes,
        "corpus": sweep.where.data.corpus,
        "seeds": list(SEEDS),
        "environment": environment,
        "rungs": {
            id: {
                "lr": t.lr,
                "flat": t.flat,
                "interior": t.interior,
                "curvature": t.curvature,
                "points": point_list(t),
            }
            for id, t in tuned.items()
        },
    }


def point_list(tuned: Tuned) -> list[list[float | None]]:
    """``[rate, loss]`` of each that was tried, as JSON holds it: no loss where a run diverged."""
    return [[lr, loss if math.isfinite(loss) else None] for lr, loss in tuned.points]


def rates_used(rungs: Sequence[Rung]) -> list[str]:
    """The core rungs whose tuned rates these rungs have, inherit, or search around."""
    sources = (_source(rung) for rung in rungs)
    wanted = {rung.id for rung in sources if rung is not None}
    return [rung.id for rung in CORE if rung.id in wanted]


def _source(rung: Rung) -> Rung | None:
    """The core rung of :func:`~mytnano.designs.rates.learning_rate_for`; None for a rate of its
    own."""
    if rung.group != "core" and design(rung.id).optim.lr != ROOT.optim.lr:
        return None
    while rung.group != "core":
        rung = KNOWN[rung.parent or CORE[0].id]
    return rung


def sizes_matter(rungs: Sequence[Rung]) -> bool:
    """Whether any of them, or of those whose rates they use, has the best trained vocabulary."""
    return any(map(_has_best_bpe, [*rungs, *(KNOWN[id] for id in rates_used(rungs))]))


def _has_best_bpe(rung: Rung) -> bool:
    return design(rung.id).data.tokenizer == BEST_BPE and rung.group != WHOLE_TEXT


def sweep_into(sweep: Sweep, rungs: Sequence[Rung], environment: dict) -> None:
    """Tune what these rungs use; write it into the folder beside what was tuned there before.

    ``learning_rates.json`` holds the rates, and which vocabulary they were tuned with;
    ``vocabulary.json`` the sizes, if one of the rungs has the best of them.
    """
    where, ids = sweep.where, rates_used(rungs)
    known, known_sizes = _earlier(where)
    best = known_sizes["best"] if known_sizes else None
    sizes: dict[str, Tuned] = {}
    if sizes_matter(rungs):
        sizes = sweep.vocabularies()
        best = min(sizes, key=lambda size: min(loss for _, loss in sizes[size].points))
    tuned = replace(sweep, where=replace(where, best_bpe=best or where.best_bpe))
    made = as_json(tuned.rates(ids), sweep, environment) | {"best_bpe": best}
    same = known_sizes is not None and known_sizes["best"] == best
    kept = {
        id: entry
        for id, entry in known.items()
        if id not in ids and id in KNOWN and (same or not _has_best_bpe(KNOWN[id]))
    }
    # Written together: rates that were tuned with another vocabulary must not meet this one.
    if sizes:
        chosen = as_json(sizes, sweep, environment) | {"best": best}
        atomic_write_json(where.out / VOCABULARY_FILE, chosen)
    atomic_write_json(where.out / FILE, made | {"rungs": kept | made["rungs"]})


def _earlier(where: Where) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Rates by rung, and sizes, of an earlier sweep in the folder that is whole and of today."""
    try:
        found = _read(where)
    except (UserError, *_DAMAGE):
        return {}, None
    return (found[0]["rungs"], found[1]) if found else ({}, None)


def swept(where: Where) -> Where:
    """``where`` with the choices of an earlier sweep in its output folder, if there are any.

    A core rung that was not tuned there has the shipped rate, by the written rule; its id is in
    ``rates["shipped"]``.

    Raises:
        UserError: the files of the sweep are damaged, or of another version.
    """
    try:
        found = _read(where)
    except _DAMAGE:
        raise UserError(
            f"the sweep in {where.out} is damaged or not whole: delete {FILE} and "
            f"{VOCABULARY_FILE} there, or repeat it with --tune"
        ) from None
    if found is None:
        return where
    rates, sizes = found
    shipped = [rung.id for rung in CORE if rung.id not in rates["rungs"]]
    ruled = {id: {"lr": learning_rate_for(id, rates["train_bytes"])} for id in shipped}
    rates = rates | {"rungs": ruled | rates["rungs"], "shipped": shipped}
    return replace(where, rates=rates, best_bpe=sizes["best"] if sizes else where.best_bpe)


_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading and looking things up in a damaged file may raise."""


def _read(where: Where) -> tuple[dict[str, Any], dict[str, Any] | None] | None:
    """Rates and sizes of the folder's sweep; None if it has none; one of ``_DAMAGE`` if damaged.

    Raises:
        UserError: they were made by another version.
    """
    paths = where.out / FILE, where.out / VOCABULARY_FILE
    if not any(path.exists() for path in paths):
        return None
    rates = json.loads(paths[0].read_bytes())
    alone = rates.get("best_bpe", "") is None  # no size mattered; earlier files do not say
    sizes = None if alone else json.loads(paths[1].read_bytes())
    for each in filter(None, (rates, sizes)):
        if each["semantics"] != (now := semantics(where.precision)):
            raise UserError(
                f"the sweep in {where.out} was made by another version (SEMANTICS "
                f"{each['semantics']}, now {now}): repeat it with --tune, or choose another "
                "--out folder"
            )
    _check(rates, sizes)
    return rates, sizes


def _check(rates: dict, sizes: dict | None) -> None:
    """Raise one of the errors of looking things up unless both files are as they were written."""
    if sizes is not None:
        if sizes["best"] not in sizes["rungs"] or not set(sizes["rungs"]) <= set(VOCABULARIES):
            raise ValueError("not a vocabulary that was swept")
        if rates.get("best_bpe", sizes["best"]) != sizes["best"]:
            raise ValueError("rates of another vocabulary")
    numbers = [rates["train_bytes"], *(entry["lr"] for entry in rates["rungs"].values())]
    if not all(0 < number < math.inf for number in numbers):
        raise ValueError("not a rate")
