"""Run docs/tour.md cell by cell in an empty folder, and keep what it printed.

    python scripts/run_tour.py         write results/tour.json and the figure, fill the page
    python scripts/run_tour.py FOLDER  the same in a folder that is kept

A cell is a block of Python or shell that a region ``tour-NAME`` follows. Python cells are one
session, shell cells run in the same folder; a YAML block with a title is written to that file. The
outputs go to results/tour.json together with the cells' text, from which ``make docs`` fills the
page: a cell that was changed since says so there.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import generate
from generator.tour import FIGURE, FILE, PAGE, Cell, cells

from mytnano.environment import environment
from mytnano.errors import UserError
from mytnano.files import atomic_write_bytes, atomic_write_json
from mytnano.training.precision import choose_precision

ROOT = Path(__file__).resolve().parent.parent
ANSWER = "out/average/answer.svg"
SHELL = {"COLUMNS": "100", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}


@dataclass(frozen=True)
class Ran:
    """A cell with what it printed, and how long it took."""

    cell: Cell
    output: str
    seconds: float


def run(page: str, folder: Path) -> Iterator[Ran]:
    """Run the cells of a page in their order, in a folder.

    Raises:
        UserError: a cell failed; what it printed is in the sentence.
    """
    session: dict[str, Any] = {"__name__": "tour"}
    for cell in cells(page):
        started = time.monotonic()
        if cell.language == "yaml":
            (folder / cell.name).write_text(cell.source, encoding="utf-8")
            continue
        printed = run_python if cell.language == "python" else run_shell
        output = printed(cell, folder, session)
        # A path of this machine's temporary folder says nothing elsewhere.
        output = re.sub(re.escape(str(folder.resolve())) + "/?", "", output)
        yield Ran(cell, _tidy(output), time.monotonic() - started)


def run_python(cell: Cell, folder: Path, session: dict[str, Any]) -> str:
    """Run Python in the session of its page."""
    printed = io.StringIO()
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
            exec(compile(cell.source, f"{PAGE}, cell {cell.name}", "exec"), session)
    except Exception as error:
        raise UserError(f"cell '{cell.name}' failed: {type(error).__name__}: {error}") from error
    return printed.getvalue()


def run_shell(cell: Cell, folder: Path, session: dict[str, Any]) -> str:
    """Run shell lines, with the ``mytnano`` of this Python."""
    own = f'mytnano() {{ "{sys.executable}" -m mytnano "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-euc", own + cell.source],
        cwd=folder,
        env={**os.environ, **SHELL},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise UserError(f"cell '{cell.name}' ended with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout


def _tidy(output: str) -> str:
    """Without spaces at the ends of lines and the lines that only say how far a command is."""
    lines = [line.rstrip() for line in output.splitlines()]
    kept = [line for line in lines if not re.match(r"\s*(about .* left|\[ *\d+/\d+\] )", line)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")


def write(ran: list[Ran], folder: Path, root: Path) -> None:
    """Keep the outputs, with the conditions they were made under, and the figure."""
    conditions = environment("cpu", choose_precision("cpu")[0])
    found = {
        "environment": conditions,
        "seconds": sum(each.seconds for each in ran),
        "cells": {
            each.cell.name: {
                "source": each.cell.source,
                "output": each.output,
                "seconds": round(each.seconds, 1),
            }
            for each in ran
        },
    }
    atomic_write_json(root / FILE, found)
    atomic_write_bytes(root / FIGURE, (folder / ANSWER).read_bytes())


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Exit code 0, or 2 with a sentence about what to fix."""
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        print(__doc__, file=sys.stderr)
        return 2
    page = (root / PAGE).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments[0] if arguments else temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        ran = []
        try:
            for each in run(page, folder):
                print(f"[{each.cell.name}] {each.seconds:.1f} s\n{each.output}", flush=True)
                ran.append(each)
            write(ran, folder, root)
        except UserError as error:
            print(f"tour: {error}", file=sys.stderr)
            return 2
    return generate.main([], root)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
