"""Markdown tables, and reading the files that they are made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mytnano import words
from mytnano.config import semantics
from mytnano.errors import UserError
from mytnano.words import MISSING


@dataclass(frozen=True)
class Project:
    """The source tree whose documents are filled."""

    root: Path

    def read(self, path: str) -> Any:
        """The JSON value in a file of the tree; None if there is no such file.

        Raises:
            UserError: the file is not JSON.
        """
        try:
            return json.loads((self.root / path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            raise UserError(f"{path} is not JSON: restore it or make it again") from None

    def files(self, pattern: str) -> list[str]:
        """The files that match, relative to the tree, by name."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.glob(pattern))


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[str] = ()
) -> str:
    """A Markdown table.

    Args:
        header: names of the columns.
        rows: a cell a column each.
        numbers: names of the columns that are aligned right.
    """
    rule = ["---:" if name in numbers else "---" for name in header]
    lines = [header, rule, *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    text = MISSING if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def conditions(environment: dict[str, Any] | None) -> str:
    """One sentence: hardware, versions, date and commit, which stand beside every figure."""
    known = environment or {}
    cores = f", {known['cores']} cores" if known.get("cores") else ""
    what = [f"{known.get('hardware') or 'unrecorded hardware'}{cores}"]
    if known.get("precision"):
        what.append(str(known["precision"]))
    if known.get("torch"):
        what.append(f"PyTorch {known['torch']}")
    if known.get("python"):
        what.append(f"Python {known['python']}")
    what.append(str(known.get("date") or "no date recorded"))
    what.append(f"commit `{known['commit']}`" if known.get("commit") else "no commit recorded")
    return f"Measured on: {'; '.join(what)}."


def older(environment: dict[str, Any]) -> str:
    """A sentence if the numbers of a run have moved since these were made; else nothing."""
    made = environment.get("semantics", 1)  # the first results did not record it
    now = semantics(environment.get("precision", "fp32"))
    if made == now:
        return ""
    return (
        f" Made by an earlier version (`SEMANTICS` {made}, now {now}): CHANGELOG.md says what has "
        "moved since."
    )


def conditions_of(environments: Iterable[dict[str, Any]]) -> str:
    """One sentence for many results: dates and commits in a list where only they differ."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for environment in environments:
        same = conditions(environment | {"date": "", "commit": ""})
        groups.setdefault(same, []).append(environment)
    sentences = []
    for group in groups.values():
        dates = sorted({str(each.get("date")) for each in group})
        commits = list(dict.fromkeys(f"`{each.get('commit')}`" for each in group))
        if len(commits) == 1:
            sentences.append(conditions(group[0]))
            continue
        span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        whole = conditions(group[0] | {"date": span, "commit": "COMMIT"})
        sentences.append(whole.replace("commit `COMMIT`", f"commits {words.listed(commits)}"))
    return " ".join(sentences)


def environments_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Those under which an answer's runs were made, for :func:`conditions_of`; mostly one."""
    return answer.get("environments") or [answer.get("environment") or {}]


def paragraphs(*parts: str | None) -> str:
    """Parts with a blank line between; empty ones are left out."""
    return "\n\n".join(part for part in parts if part)


def plain(text: str) -> str:
    """Text in which Markdown and HTML find nothing to act on."""
    return re.sub(r"([*_<`\[])", r"\\\1", text)


def bullets(lines: Iterable[str]) -> str:
    """A list, one line an item."""
    return "\n".join(f"- {line}" for line in lines)


def byte_size(count: int) -> str:
    """``256 KiB``, ``40 MiB``."""
    return f"{count / 2**20:g} MiB" if count >= 2**20 else f"{count / 1024:g} KiB"
