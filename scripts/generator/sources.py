"""Regions about the tree itself: dependencies, and timed commands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable

from generator.tables import Project, conditions, paragraphs, plain, table

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


def _run_minutes(project: Project) -> str:
    """How long the published ladder's runs took, where nobody timed the whole command."""
    found = project.read("results/ladder/quick/results.json")
    if not found:
        return "Nothing has been timed in this tree: `make ladder` prints a plan with its minutes."
    minutes = sum(run["seconds"] for run in found["runs"]) / 60
    return (
        f"The {len(found['runs'])} runs of the ladder below took {minutes:.0f} minutes of one "
        f"core, so about {minutes / 2:.0f} minutes on two; the baselines come on top. "
        f"{conditions(found['environment'])}"
    )


def commands(project: Project) -> str:
    """How long the two commands take from a fresh clone."""
    timed = project.read(COMMANDS_FILE)
    if not timed:
        return _run_minutes(project)
    first = timed["commands"][0].get("commit")
    rows = []
    for c in timed["commands"]:
        at = f" at `{c['commit']}`" if c.get("commit") != first else ""
        minutes = f"{c['seconds'] / 60:.1f} min"
        rows.append((f"`{c['command']}`{at}", minutes, plain(c.get("last_line") or "")))
    commits = {c.get("commit") for c in timed["commands"]}
    parts = (
        "From a fresh clone, one after the other; the first installs the package, the second the "
        "tools for tests."
        if len(commits) == 1
        else "Each from a fresh clone of its commit, installation included.",
        *(f"`{c['command']}`: {c['note']}" for c in timed["commands"] if c.get("note")),
        conditions(timed.get("environment")),
    )
    note = " ".join(part for part in parts if part)
    header = ("command", "wall clock, all in", "last line printed")
    return paragraphs(table(header, rows, header[1:2]), note)
