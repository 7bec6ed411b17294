"""JSON files that an output folder keeps for later commands; never trusted unless whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mytnano.errors import UserError
from mytnano.files import atomic_write_json, json_text, sha256_bytes

_CHECKSUM = "checksum"


def kept(path: Path, conditions: Any, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``measure`` returns, from ``path`` if it was measured under the same conditions.

    A file that is missing, damaged or of other conditions is written anew.

    Args:
        conditions: plain values; whatever the measurement depends on.

    Raises:
        UserError: the disk is full.
    """
    found = read_kept(path, conditions)
    return write_kept(path, conditions, measure()) if found is None else found


def read_kept(path: Path, conditions: Any = None) -> dict[str, Any] | None:
    """The values in ``path``; None if it is missing, damaged or of other conditions."""
    try:
        found = json.loads(path.read_bytes())
        whole = found.pop(_CHECKSUM) == _checksum(conditions, found)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return found if whole else None


def write_kept(path: Path, conditions: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Write the values, with a checksum over them and the conditions; return them as read back."""
    values = json.loads(json_text(values))
    atomic_write_json(path, values | {_CHECKSUM: _checksum(conditions, values)})
    return values


def with_conditions(known: list[dict[str, Any]], now: dict[str, Any]) -> list[dict[str, Any]]:
    """``known`` conditions of runs and those of ``now``; another day alone makes no new ones."""
    now = json.loads(json_text(now))
    same = any(each | {"date": ""} == now | {"date": ""} for each in known)
    return known if same else [*known, now]


def another_version(what: str) -> UserError:
    """What is said of a file that is whole, and not of this version."""
    return UserError(
        f"{what} was begun by another version, whose numbers differ from this one's: choose "
        "another --out, or go on with that version"
    )


def _checksum(conditions: Any, values: dict[str, Any]) -> str:
    return sha256_bytes(json_text([conditions, values]).encode())[:16]
