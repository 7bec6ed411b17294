"""What all runs in one output folder have in common, so that a later command continues them.

``ladder.json`` holds it. A folder is of one budget, one text and one device. The arithmetic, and
whether runs train in fleets, which probes chose for the first command there, hold for all that
follow: in another, every finished run would be another run, and made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pydantic

from mytnano.config import DataConfig, RunConfig
from mytnano.environment import choose_device
from mytnano.errors import UserError
from mytnano.kept import another_version, read_kept, write_kept
from mytnano.ladder.fleets import choose_fleet
from mytnano.runs.store import finished_runs, run_folders
from mytnano.training.precision import choose_precision
from mytnano.training.text import read_corpus

FILE = "ladder.json"


@dataclass(frozen=True)
class Shared:
    """The content of ``ladder.json``: names as in the config, and the budget's."""

    budget: str
    corpus: str
    split: str
    test_file: str | None
    fingerprint: str
    device: str
    precision: str
    fleet: str = "off"


@dataclass(frozen=True)
class Machine:
    """What the user named: ``auto`` is the folder's, or what suits the machine."""

    device: str = "auto"
    precision: str = "auto"
    fleet: str = "auto"


def settle(
    out: Path,
    budget: str,
    data: DataConfig,
    fingerprint: str,
    machine: Machine,
    say: Callable[[str], None],
) -> Shared:
    """What the runs of this command have in common with those in the folder; written there.

    Args:
        out: the output folder, locked.
        data: the text as the user named it, ``fingerprint`` of what was read.
        machine: what the user asked for.
        say: gets a sentence if the file was damaged.

    Raises:
        UserError: the folder holds runs of another version, budget, text, device or precision, or
            this machine lacks the device.
    """
    found = _found(out, budget, say)
    device, precision, fleet = machine.device, machine.precision, machine.fleet
    if found is not None:
        device = found.device if device == "auto" else device
        precision = found.precision if precision == "auto" else precision
        fleet = found.fleet if fleet == "auto" else fleet
    device = choose_device(device)
    if precision == "auto":
        precision, _ = choose_precision(device)
    text = (data.corpus, data.split, data.test_file)
    fleet = choose_fleet(fleet, device, precision)
    shared = Shared(budget, *text, fingerprint, device, precision, fleet)
    if found is not None:
        shared = _as_begun(out, found, shared)
        _check(out, found, shared)
    write_kept(out / FILE, None, asdict(shared))
    return shared


def _found(out: Path, budget: str, say: Callable[[str], None]) -> Shared | None:
    """What the folder's runs have in common; None if it holds none."""
    if not run_folders(out):
        return None
    if values := read_kept(out / FILE):
        try:
            return Shared(**values)
        except TypeError:  # names that this version does not have, or lacks
            raise another_version(f"the ladder in {out}") from None
    recovered = _recover(out, budget)
    if recovered:
        say(f"{FILE} was missing or damaged and is made anew from the finished runs")
    return recovered


def _recover(out: Path, budget: str) -> Shared | None:
    """From the config of a finished run, which does not name its budget."""
    runs, _ = finished_runs(out)
    for run in runs:
        try:
            config = RunConfig.model_validate(run.config())
        except (OSError, pydantic.ValidationError):  # of another version
            continue
        data, train = config.data, config.train
        text = (data.corpus, data.split, data.test_file, data.fingerprint)
        fleet = any(each.config()["train"].get("fleet") for each in runs)
        return Shared(budget, *text, train.device, train.precision, "on" if fleet else "off")
    return None


def _as_begun(out: Path, found: Shared, wanted: Shared) -> Shared:
    """The same text by the name that the runs have for it, if it has another one now.

    The name is part of a run's hash, and what its process opens.

    Raises:
        UserError: the text is the same, but its name of then is no text here.
    """
    then, now = ((each.corpus, each.test_file) for each in (found, wanted))
    same = (found.fingerprint, found.split) == (wanted.fingerprint, wanted.split)
    if then == now or not same or (found.test_file is None) != (wanted.test_file is None):
        return wanted
    try:
        read = read_corpus(found.corpus, found.split, found.test_file)
    except UserError:
        read = None
    if read is None or read.fingerprint != found.fingerprint:
        names = " and ".join(f"'{name}'" for name in then if name)
        raise UserError(
            f"the ladder in {out} calls its text {names}, which is not there from this folder: run "
            "the command where it was begun, or choose another --out folder"
        )
    return replace(wanted, corpus=found.corpus, test_file=found.test_file)


def _check(out: Path, found: Shared, wanted: Shared) -> None:
    for name in ("budget", "corpus", "split", "test_file", "device", "precision", "fleet"):
        here, asked = getattr(found, name), getattr(wanted, name)
        if here != asked:
            option = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{out} holds a ladder with {option} {here or '(none)'}, and this one has "
                f"{asked or '(none)'}: choose another --out folder for it"
            )
    if found.fingerprint != wanted.fingerprint:
        raise UserError(
            f"the text of '{wanted.corpus}' has changed since the ladder in {out} began: restore "
            "it, or choose another --out folder"
        )
