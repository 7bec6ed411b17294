"""The blocks of the documents, and the commands in them and in their sentences."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs_toys import ROOT
from markdown_it import MarkdownIt

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
RUN = ("mytnano", "make", "torchrun", "timeout", "python", ".venv/bin/python")
"""Programs whose lines are commands, whatever block they stand in."""


@dataclass(frozen=True)
class Block:
    """A fenced or indented block: its document, first line, language, and text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    """Every block of every document."""
    for path in DOCUMENTS:
        page = path.relative_to(ROOT).as_posix()
        for token in MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8")):
            if token.type in ("fence", "code_block"):
                words = token.info.split()
                yield Block(page, token.map[0] + 1, words[0] if words else "", token.content)


def commands() -> list[tuple[str, list[str]]]:
    """(place, words) of every command in a block, each once a document."""
    found = {}
    for block in blocks():
        for line in block.text.splitlines():
            if block.language == "sh" or line.strip().startswith(tuple(f"{p} " for p in RUN)):
                # What a cell of the tour printed are no commands.
                if block.language == "text" and block.page == "docs/tour.md":
                    continue
                if words := shlex.split(line, comments=True):
                    found[block.page, line] = (block.place, words)
    return list(found.values())


def mentions() -> list[tuple[str, list[str]]]:
    """(page, words) of every command in a sentence or a table, each once a document."""
    found = {}
    for path in DOCUMENTS:
        page = path.relative_to(ROOT).as_posix()
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for said in re.findall(r"`((?:mytnano|make) [^`]+)`", text):
            found[page, said] = (page, shlex.split(" ".join(said.split())))
    return list(found.values())


def inner(words: list[str]) -> list[str]:
    """A command without what stands before it: ``timeout`` and ``torchrun`` with their options."""
    if words[0] == "timeout":
        words = words[4:]  # --signal INT SECONDS
    if words[0] == "torchrun":
        words = words[words.index("-m") + 1 :]
    if Path(words[0]).name == "python" and words[1] == "-m" and words[2].startswith("mytnano"):
        words = [words[2], *words[3:]]
    return words
