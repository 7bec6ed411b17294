"""``mytnano claims run``: the ablations and measurements that claims rest on."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from rich.console import Console

from mytnano.claims.costs import measure_costs
from mytnano.claims.decoding import measure_decoding
from mytnano.claims.evidence import FILE, Evidence
from mytnano.claims.gather import write_evidence
from mytnano.claims.judge import needed
from mytnano.claims.ledger import Claim, question_file
from mytnano.claims.rates import measure_rates
from mytnano.environment import choose_device
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.lab import ablate
from mytnano.training.precision import choose_precision

COSTS, DECODING, RATES = "costs", "decoding", "rates"


def run_claims(
    claims: Sequence[Claim], out: Path, console: Console, device: str, workers: int | None
) -> None:
    """Make the evidence of some claims in ``out``, a folder each; what is finished is not repeated.

    Raises:
        UserError: a claim has nothing to run, or a run cannot be made.
    """
    names = list(dict.fromkeys(name for claim in claims for name in needed(claim)))
    if not names:
        said = "; ".join(
            f"{claim.id}: {claim.needs or 'decided without a run'}" for claim in claims
        )
        raise UserError(f"there is nothing to run ({said})")
    for name in names:
        folder = out / name
        if made(folder, name):
            console.print(f"{name}: finished", highlight=False)
            continue
        console.print(f"{name}:", style="bold", highlight=False)
        _make(name, folder, console, device, workers)


def made(folder: Path, name: str) -> bool:
    """Whether the evidence is there.

    Raises:
        UserError: it answers a question that has been changed since, or is damaged.
    """
    if not (folder / FILE).exists():
        return False
    if Evidence(folder.parent).current_own(name) is None:
        raise UserError(
            f"{folder} answers '{name}' as it was asked by another version: give another --out"
        )
    return True


def _make(name: str, folder: Path, console: Console, device: str, workers: int | None) -> None:
    if name in (COSTS, DECODING):
        device = choose_device(device)
        precision, _ = choose_precision(device)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure_costs(precision, device) if name == COSTS else measure_decoding(device)
        atomic_write_json(folder / FILE, found)
    elif name == RATES:
        atomic_write_json(folder / FILE, measure_rates(folder, console, device, workers))
    else:
        with resources.as_file(question_file(name)) as path:
            ablate(path, folder, console, device, workers)
        write_evidence(folder, name)
