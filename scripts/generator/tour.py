"""The regions of docs/tour.md: what its cells printed when `scripts/run_tour.py` ran them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from generator.tables import Project, conditions

PAGE = "docs/tour.md"
FILE = "results/tour.json"
FIGURE = "docs/img/tour-answer.svg"
PREFIX = "tour-"

BLOCK = re.compile(
    r'^```(?P<language>python|sh|yaml)(?: title="(?P<title>[\w.-]+)")?\n(?P<source>.*?)^```\n'
    r"(?:\n<!-- generated:tour-(?P<name>[\w-]+) -->$)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Cell:
    """A block that is run: its name is the region's after it, or the file that it is written to."""

    name: str
    language: str
    source: str


def cells(page: str) -> list[Cell]:
    """The cells of a page in their order; blocks with neither region nor title are no cells."""
    return [
        Cell(match["name"] or match["title"], match["language"], match["source"])
        for match in BLOCK.finditer(page)
        if match["name"] or match["title"]
    ]


def names() -> list[str]:
    """Names of the cells of this tree's page that print something."""
    page = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
    return [cell.name for cell in cells(page) if cell.language != "yaml"]


def output(project: Project, name: str) -> str:
    """What a cell printed, or why there is nothing to show."""
    found = (project.read(FILE) or {"cells": {}})["cells"].get(name)
    page = (project.root / PAGE).read_text(encoding="utf-8")
    source = next((cell.source for cell in cells(page) if cell.name == name), None)
    if found is None:
        return "Not run in this tree: `make tour` does it."
    changed = "" if found["source"] == source else "Printed by an earlier version of the cell:\n\n"
    fence = "```" if "```" not in found["output"] else "````"
    return f"{changed}{fence}text\n{found['output']}\n{fence}"


def about(project: Project) -> str:
    """Where and when the page was run, and how long it took."""
    found = project.read(FILE)
    if found is None:
        return "Not run in this tree: `make tour` does it."
    minutes = f"{found['seconds'] / 60:.0f} minutes in all."
    return f"{conditions(found['environment'])} {minutes}"
