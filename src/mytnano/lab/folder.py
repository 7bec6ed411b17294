"""What an output folder keeps to: one plan, one device, one precision, fleets or none.

All of them decide what a run is, so a verdict could not pair runs of two kinds. Beside them stand
the conditions under which the runs were made, as the answer is published with those.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mytnano.environment import choose_device, environment
from mytnano.errors import UserError
from mytnano.files import json_text
from mytnano.kept import read_kept, with_conditions, write_kept
from mytnano.lab.plan import Plan
from mytnano.ladder.cells import Where
from mytnano.ladder.fleets import choose_fleet, first_alone
from mytnano.run_files import PLAN
from mytnano.runs.store import run_folders
from mytnano.training.fleet_size import LARGEST
from mytnano.training.precision import choose_precision

MACHINE = "machine.json"
ANSWER = "answer.json"
ENVIRONMENTS = "environments"

MOST_CHANGES = 4
"""Changes that a refusal names."""


def settled_device(out: Path, wanted: str) -> str:
    """The device of the folder's runs; without any, the one that is wanted.

    Raises:
        UserError: the folder's runs were made on another one, or there is no such device.
    """
    here = _machine(out).get("device")
    device = choose_device(here if here and wanted == "auto" else wanted)
    if here and device != here:
        raise UserError(
            f"{out} holds runs that were made on {here}, and this command has {device}: choose "
            "another --out folder for it"
        )
    return device


def settled_precision(out: Path, device: str, keep: bool = True) -> str:
    """The precision of the folder's runs, chosen once; kept where runs are to follow."""
    if (here := _machine(out).get("precision")) is not None:
        return here
    precision, _ = choose_precision(device)
    if keep:
        _note(out, precision=precision)
    return precision


def settled_fleet(
    out: Path, plan: Plan, where: Where, wanted: str, say: Callable[[str], None], keep: bool
) -> bool:
    """Whether the folder's runs train in fleets, settled once: all of them or none.

    A verdict pairs runs of different arms, and a run of a fleet is equal to one alone only to
    rounding. So one arm that has to run alone, at any size, decides for all.

    Raises:
        UserError: the folder's runs were made the other way.
    """
    choice = choose_fleet(wanted, where.device, where.precision)
    sizes = {"": plan, **plan.scales}
    reason = first_alone(
        (f"{arm.name} at scale {size}" if size else arm.name, arm.config)
        for size, each in sizes.items()
        for arm in each.every
    )
    if choice == "on" and reason:
        say(f"no fleets, as not every arm can be in one ({reason})")
        choice = "off"
    here = _machine(out).get("fleet", "off" if run_folders(out) else None)
    if here is None:
        if keep:  # a plan alone settles nothing
            _note(out, fleet=choice)
        return choice == "on"
    if wanted != "auto" and here != choice:
        raise UserError(
            f"{out} holds runs made with --fleet {here}, and this one has {choice}: choose "
            "another --out folder for it"
        )
    return here == "on"


def keep_plan(plan: Plan, out: Path, device: str) -> None:
    """Write the plan before the first run; a folder keeps to one.

    Raises:
        UserError: the folder belongs to another question.
    """
    found = read_kept(out / PLAN)
    if found is None and run_folders(out):
        raise UserError(
            f"{out} holds runs, but {PLAN} is missing or damaged, so it cannot be determined what "
            "was asked: choose another --out folder"
        )
    if found is None:
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        write_kept(out / PLAN, None, {"hash": plan.hash, "written": date, **plan.content})
    elif found["hash"] != plan.hash:
        changes = changes_of(found, plan)
        raise UserError(
            f"{out} holds the answer to another question, or to this one before it was changed"
            f"{f' ({changes})' if changes else ''}: choose another --out folder, as a plan is not "
            "changed after its first run"
        )
    _note(out, device=device)


def changes_of(kept: dict[str, Any], plan: Plan) -> str:
    """``seeds: 24 -> 40``: in what a plan differs from the one that a folder keeps."""
    now = json.loads(json_text(plan.content))
    found = list(_changes(kept.get("spec"), now["spec"]))
    if not found:  # what a question does not say, such as the precision, moves all arms alike
        found = [
            change.partition(".")[2] or change for change in _changes(kept.get("arms"), now["arms"])
        ]
    found += _changes(kept.get("semantics"), now["semantics"], "semantics")
    found = list(dict.fromkeys(found))
    more = [f"{len(found) - MOST_CHANGES} more"] if len(found) > MOST_CHANGES else []
    return "; ".join([*found[:MOST_CHANGES], *more])


def _changes(before: Any, after: Any, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before | after:
            inner = f"{name}.{key}" if name else key
            yield from _changes(before.get(key), after.get(key), inner)
    elif before != after:
        yield f"{name}: {before} -> {after}"


def conditions(where: Where) -> dict[str, Any]:
    """Hardware, versions, commit and date of runs that are made now."""
    fleet = {"fleet": LARGEST} if where.fleet else {}
    return environment(where.device, where.precision) | fleet


def note_conditions(where: Where) -> None:
    """Write down that runs are being made now."""
    known = with_conditions(environments(where.out), conditions(where))
    _note(where.out, **{ENVIRONMENTS: known})


def environments(out: Path) -> list[dict[str, Any]]:
    """Conditions under which the folder's runs were made, the first ones first.

    Folders of earlier versions kept only those of the answer.
    """
    answered = stored_answer(out).get("environment")
    return _machine(out).get(ENVIRONMENTS) or ([answered] if answered else [])


def stored_answer(out: Path, plan_hash: str | None = None) -> dict[str, Any]:
    """The content of ``answer.json``; empty without a whole one, or if it is of another plan."""
    try:
        found = json.loads((out / ANSWER).read_bytes())
        ours = plan_hash is None or found["plan_hash"] == plan_hash
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return found if ours else {}


def _machine(out: Path) -> dict[str, Any]:
    return read_kept(out / MACHINE) or {}


def _note(out: Path, **values: Any) -> None:
    before = _machine(out)
    if before | values != before:
        write_kept(out / MACHINE, None, before | values)
