"""Fill the generated regions of README.md and docs/*.md from the result files of the tree, and
make the pages and figures of the claims.

    python scripts/generate.py            write what has changed
    python scripts/generate.py --check    write nothing; exit code 1 if something would change

A region is what stands between ``<!-- generated:NAME -->`` and ``<!-- /generated -->``. A number
that was measured stands nowhere else. A region whose result file is missing says which command
makes it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from generator import models
from generator.claim_pages import pages
from generator.ladder import headline_figure
from generator.regions import regions
from generator.tables import Project

from mytnano.errors import UserError
from mytnano.files import atomic_write_text

REGION = re.compile(
    r"(?P<open><!-- generated:(?P<name>[\w-]+) -->\n).*?(?P<close>^<!-- /generated -->)",
    re.DOTALL | re.MULTILINE,
)
MARKER = re.compile(r"^<!-- (/?generated)", re.MULTILINE)
ROOT = Path(__file__).resolve().parent.parent
FIGURE = "docs/img/ladder-quick.svg"


def documents(root: Path) -> list[Path]:
    """The texts that may hold regions."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def fill(text: str, project: Project) -> str:
    """``text`` with every region filled anew.

    Raises:
        UserError: a region of an unknown name, one that is not closed, or one whose result file is
            not what it reads.
    """
    known = regions()

    def filled(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in known:
            raise UserError(f"there is no region '{name}'; known are {', '.join(known)}")
        try:
            content = known[name](project)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"region {name}: what it is made from lacks {error}; measure it again"
            ) from error
        return f"{match['open']}\n{content}\n\n{match['close']}"

    if len(MARKER.findall(text)) != 2 * len(REGION.findall(text)):
        raise UserError("a generated region is not closed, or one stands inside another")
    return REGION.sub(filled, text)


def outputs(root: Path) -> dict[Path, str | None]:
    """What every generated file should hold; None for one that should not exist."""
    project = Project(root)
    found: dict[Path, str | None] = {
        root / FIGURE: headline_figure(project, "quick"),
        root / models.FIGURE: models.figure(project),
    }
    for path in documents(root):
        try:
            found[path] = fill(path.read_text(encoding="utf-8"), project)
        except UserError as error:
            raise UserError(f"{path.relative_to(root)}: {error}") from None
    return found | {root / path: text for path, text in pages(project).items()}


def stale(root: Path) -> dict[Path, str | None]:
    """Those of :func:`outputs` that are not what the files hold."""
    return {path: text for path, text in outputs(root).items() if _content(path) != text}


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def write(changed: dict[Path, str | None]) -> None:
    """Write the files, and delete those that should not exist."""
    for path, text in changed.items():
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, text)


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Exit code 0: all is current; 1: ``--check`` found that something is not; 2: a mistake."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        changed = stale(root)
        if not arguments:
            write(changed)
    except UserError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 2
    for path in changed:
        verb = "is out of date: run `make docs`" if arguments else "written"
        print(f"{path.relative_to(root)} {verb}")
    return 1 if arguments and changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
