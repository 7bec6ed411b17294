"""Files that are copied to the results, and what must not be."""

from __future__ import annotations

import json
from pathlib import Path

from mytnano.errors import UserError
from mytnano.files import atomic_write_bytes


def copy(names: tuple[str, ...], folder: Path, target: Path) -> Path:
    """Copy files; those that the folder does not have are removed from the target."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        source = folder / name
        if source.exists():
            atomic_write_bytes(target / name, source.read_bytes())
        else:
            (target / name).unlink(missing_ok=True)
    return target


def json_of(path: Path) -> dict:
    """What a JSON file holds; nothing if there is none."""
    return json.loads(path.read_bytes()) if path.exists() else {}


def fit_to_publish(folder: Path, commit: str) -> None:
    """Refuse what was made from a changed tree."""
    if not commit or commit.endswith("+"):
        raise UserError(
            f"{folder} was made from a changed tree or outside of a checkout: "
            "commit, then run again in a new folder"
        )
