"""Evidence files: what ablations and measurements found, as shipped or as run here.

A file in the user's own folder goes before the shipped one of the same name, unless it answers
another question or was made by code with other numbers. What is in them:
:mod:`mytnano.claims.gather`, :mod:`mytnano.claims.costs`, :mod:`mytnano.claims.rates`.
"""

from __future__ import annotations

import json
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from mytnano.claims.ledger import question_hash
from mytnano.config import semantics
from mytnano.errors import UserError

FILE = "evidence.json"

TRAINED = ("rates", "twins", "forecast")
"""Measurements on trained runs, which have no question file whose hash would hold SEMANTICS."""


class Evidence:
    """All evidence there is: shipped with the package, and made by ``mytnano claims run``.

    Attributes:
        own: folder of one's own evidence, ``<name>/evidence.json``.
        shipped: folder of ours, ``<name>.json``.
    """

    def __init__(self, own: Path | None = None, shipped: Traversable | None = None) -> None:
        self.own = own
        self.shipped = shipped or resources.files("mytnano.claims") / "evidence"

    def __getitem__(self, name: str) -> dict[str, Any] | None:
        """The content of a file; None where nothing was run, or not what would be run today.

        Raises:
            UserError: one's own file is damaged.
        """
        if (content := self.current_own(name)) is not None:
            return content
        if not (file := self.shipped / f"{name}.json").is_file():
            return None
        content = json.loads(file.read_text(encoding="utf-8"))
        return content if content and _is_current(name, content) else None

    def current_own(self, name: str) -> dict[str, Any] | None:
        """The content of one's own file, if it is what would be run today; see ``[name]``."""
        content = self._own(name)
        return content if content is not None and _is_current(name, content) else None

    def _own(self, name: str) -> dict[str, Any] | None:
        if self.own is None or not (path := self.own / name / FILE).exists():
            return None
        try:
            content = json.loads(path.read_bytes())
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise damaged(str(path))
        return content

    def source(self, name: str) -> str:
        """Where the content comes from: a path of one's own, or the package's file."""
        if self.own is not None and self.current_own(name) is not None:
            return str(self.own / name / FILE)
        return f"src/mytnano/claims/evidence/{name}.json"

    def note(self, name: str) -> str:
        """Why one's own file is not used; empty if it is, or if there is none."""
        if self._own(name) is None or self.current_own(name) is not None:
            return ""
        return (
            f"{self.own / name / FILE} answers another version of the question, so "  # type: ignore[operator]
            f"{'the shipped evidence is used' if self[name] else 'it is not used'}"
        )

    def names(self) -> list[str]:
        """Every ablation and measurement with evidence."""
        files = (file.name for file in self.shipped.iterdir()) if self.shipped.is_dir() else ()
        found = {name.removesuffix(".json") for name in files if name.endswith(".json")}
        if self.own is not None and self.own.is_dir():
            found |= {path.parent.name for path in self.own.glob(f"*/{FILE}")}
        return sorted(found)


def damaged(source: str) -> UserError:
    """The error for an evidence file that is not whole."""
    return UserError(f"{source} is damaged: delete it and run the claim again")


def _is_current(name: str, content: dict[str, Any]) -> bool:
    """Whether evidence is of the question as it is asked now, and of code with these numbers."""
    made = content.get("environment", {})
    version = semantics(made.get("precision", "fp32"))
    if name in TRAINED:
        return made.get("semantics") == version
    if "question_hash" not in content:  # seconds do not depend on what a run's numbers are
        return True
    return content["question_hash"] == question_hash(name) and made.get("semantics") == version
