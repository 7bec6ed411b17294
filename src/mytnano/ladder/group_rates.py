"""The learning rates of the extended groups: tuned in the output folder, before the seeds.

``group_rates.json`` holds them, in the form of every sweep file, and the hash of the design that
each was tuned for: an entry of another design, budget or version counts for nothing. The runs of
the search are run folders like all others, so a search that was interrupted goes on, and one whose
file is lost is concluded anew from its runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mytnano.config import semantics
from mytnano.designs.groups import WIDER_GROUPS, rate_of
from mytnano.designs.rates import learning_rate_for
from mytnano.designs.rungs import KNOWN, Rung
from mytnano.files import atomic_write_json
from mytnano.ladder.cells import Where
from mytnano.ladder.sweep import Sweep, as_json
from mytnano.ladder.tune import around
from mytnano.run_files import GROUP_RATES
from mytnano.runs.jobs import Job

POINTS = 4
"""Rates of a design that the plan expects: three, and more often than not one beside them."""


def to_tune(rungs: Sequence[Rung]) -> list[str]:
    """Ids of the rungs whose rate is tuned here, with the parents whose rate they inherit."""
    wanted: dict[str, None] = {}
    for rung in rungs:
        source = source_of(rung)
        if source.group in WIDER_GROUPS:
            wanted[source.id] = None
    return list(wanted)


def source_of(rung: Rung) -> Rung:
    """The rung whose tuned rate a rung has, or has scaled: itself, or an ancestor."""
    while rung.group in WIDER_GROUPS and rate_of(rung) != "tuned":
        rung = KNOWN[rung.parent or ""]
    return rung


def known_rates(sweep: Sweep, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Entries of the folder's file that are of these very designs, at this budget."""
    try:
        found = json.loads((sweep.where.out / GROUP_RATES).read_bytes())
        entries = found["rungs"]
        version = semantics(sweep.where.precision)
        if (found["semantics"], found["train_bytes"]) != (version, sweep.budget.train_bytes):
            return {}
        return {
            id: entries[id]
            for id in ids
            if id in entries and entries[id]["design"] == sweep.design_hash(id)
            and 0 < entries[id]["lr"] < 1
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def with_known_rates(sweep: Sweep) -> Where:
    """``where`` with the rates that the folder's file has."""
    ids = [
        id for id, rung in KNOWN.items() if rung.group in WIDER_GROUPS and rate_of(rung) == "tuned"
    ]
    here = [id for id in ids if id in _named(sweep.where)]
    known = known_rates(sweep, here)
    return replace(sweep.where, group_rates={id: entry["lr"] for id, entry in known.items()})


def _named(where: Where) -> dict[str, Any]:
    """Entries of the file by id, unchecked; empty if it cannot be read."""
    try:
        return dict(json.loads((where.out / GROUP_RATES).read_bytes())["rungs"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def start_of(id: str, sweep: Sweep) -> list[int]:
    """The rates of the grid that a rung is tried at first: around its parent's."""
    size = sweep.budget.bytes_of(KNOWN[id].group)
    return around(learning_rate_for(KNOWN[id].parent or id, size, sweep.where.rates))


def planned(sweep: Sweep, ids: Sequence[str]) -> dict[str, list[Job]]:
    """The runs that each rung's search begins with."""
    return {id: sweep.jobs_at(id, start_of(id, sweep)) for id in ids}


def tune_into(
    sweep: Sweep, ids: Sequence[str], environment: dict, say: Callable[[str], None]
) -> Where:
    """Tune what the folder's file lacks, write it there, and return ``where`` with all rates."""
    if missing := [id for id in ids if id not in sweep.where.group_rates]:
        tuned = sweep.rates(missing, {id: start_of(id, sweep) for id in missing})
        made = as_json(tuned, sweep, environment)
        for id, entry in made["rungs"].items():
            entry["design"] = sweep.design_hash(id)
        kept = {id: e for id, e in _named(sweep.where).items() if id in sweep.where.group_rates}
        atomic_write_json(sweep.where.out / GROUP_RATES, made | {"rungs": kept | made["rungs"]})
        for id, found in tuned.items():
            shape = "flat" if found.flat else "interior" if found.interior else "at the edge"
            say(f"learning rate of {id}: {found.lr:g} ({shape}, {len(found.points)} rates tried)")
    return with_known_rates(sweep)
