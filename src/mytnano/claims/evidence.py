"""Evidence files: what ablations and measurements found, as shipped or as run here.

A file in the user's own folder goes before the shipped one of the same name. What is in them:
:mod:`mytnano.claims.gather`, :mod:`mytnano.claims.costs`, :mod:`mytnano.claims.rates`.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from pathlib import Path
from typing import Any

from mytnano.errors import UserError

FILE = "evidence.json"


class Evidence:
    """All evidence there is: shipped with the package, and made by ``mytnano claims run``.

    Attributes:
        own: folder of one's own evidence, ``<name>/evidence.json``.
    """

    def __init__(self, own: Path | None = None) -> None:
        self.own = own

    def __getitem__(self, name: str) -> dict[str, Any] | None:
        """The content of a file, or None where nothing was run.

        Raises:
            UserError: one's own file is damaged.
        """
        if self.own is not None and (path := self.own / name / FILE).exists():
            try:
                return json.loads(path.read_bytes())
            except ValueError:
                raise UserError(f"{path} is damaged: delete it and run the claim again") from None
        return _shipped(name)

    def source(self, name: str) -> str:
        """Where the content comes from: a path of one's own, or the package's file."""
        if self.own is not None and (path := self.own / name / FILE).exists():
            return str(path)
        return f"src/mytnano/claims/evidence/{name}.json"

    def names(self) -> list[str]:
        """Every ablation and measurement with evidence."""
        shipped = (resources.files("mytnano.claims") / "evidence").iterdir()
        found = {file.name.removesuffix(".json") for file in shipped if file.name[0] != "."}
        if self.own is not None and self.own.is_dir():
            found |= {path.parent.name for path in self.own.glob(f"*/{FILE}")}
        return sorted(found)


@functools.cache
def _shipped(name: str) -> dict[str, Any] | None:
    file = resources.files("mytnano.claims") / "evidence" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
