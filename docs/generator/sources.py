"""Regions about the tree itself: dependencies, timed commands, and the engine's race."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Any

from generator.tables import Project, conditions, paragraphs, plain, table
from mytnano.report import words

COMMANDS_FILE = "results/commands.json"


def dependencies(project: Project) -> str:
    """Direct dependencies: the least version that is accepted and the one that is installed."""
    pinned = dict(_pins((project.root / "constraints.txt").read_text(encoding="utf-8")))
    with (project.root / "pyproject.toml").open("rb") as file:
        metadata = tomllib.load(file)["project"]
    groups = {"runtime": metadata["dependencies"], **metadata.get("optional-dependencies", {})}
    rows = []
    for group, requirements in groups.items():
        for requirement in requirements:
            name, wanted = re.fullmatch(r"([\w.-]+)(.*)", requirement).groups()
            pin = pinned.get(_normal(name))
            rows.append((f"`{name}`", group, wanted, pin or "not pinned"))
    total = f"`constraints.txt` pins {len(pinned)} packages, those that these bring included."
    return paragraphs(table(("package", "group", "accepted", "pinned"), rows), total)


def _pins(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, version = line.partition("==")
        if equals:
            yield _normal(name.strip()), version.strip()


def _normal(name: str) -> str:
    """A name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def commands(project: Project) -> str:
    """How long the two commands take from a fresh clone."""
    timed = project.read(COMMANDS_FILE)
    if not timed:
        return (
            "The two commands have not been timed from a fresh clone in this tree: "
            "`docs/publish.py fresh` does that."
        )
    rows = [
        (f"`{c['command']}`", f"{c['seconds'] / 60:.1f} min", plain(c.get("last_line") or ""))
        for c in timed["commands"]
    ]
    note = (
        "From a fresh clone, one after the other; the first installs the package, the second the "
        f"tools for tests. {conditions(timed.get('environment'))}"
    )
    header = ("command", "wall clock, all in", "last line printed")
    return paragraphs(table(header, rows, header[1:2]), note)


def bench(project: Project) -> str:
    """The engine's race: every file of results/bench, as `mytnano bench` wrote it."""
    parts = []
    for path in project.files("results/bench/*.json"):
        measured = project.read(path)
        if isinstance(measured, dict):
            parts += _race(path, measured)
    if parts:
        return paragraphs(*parts)
    return (
        "No race is published yet: `mytnano bench --nanogpt PATH --out results/bench/NAME.json` "
        "makes it."
    )


def _race(path: str, measured: dict[str, Any]) -> list[str]:
    """A table of each list of rows in the file, then its conditions."""
    parts = []
    for name, rows in measured.items():
        if isinstance(rows, dict) and rows and all(isinstance(r, dict) for r in rows.values()):
            rows = [{name: key, **row} for key, row in rows.items()]
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            columns = [k for k in rows[0] if any(_plain(row.get(k)) for row in rows)]
            cells = [[_value(row.get(column)) for column in columns] for row in rows]
            titles = [column.replace("_", " ") for column in columns]
            parts += [table(titles, cells)]
    return [*parts, f"`{path}`. {conditions(measured.get('environment'))}"] if parts else []


def _plain(value: object) -> bool:
    return isinstance(value, (str, int, float))


def _value(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value) if _plain(value) else words.MISSING
    return f"{value:,}" if isinstance(value, int) else words.significant(value)
