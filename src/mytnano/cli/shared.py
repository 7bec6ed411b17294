"""What verbs share: how words, folders and sentences are treated."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console


def split_names(words: list[str]) -> tuple[str, ...]:
    """``["a,b", "c"]`` -> ``("a", "b", "c")``."""
    return tuple(name.strip() for word in words for name in word.split(","))


def default_folder(budget: str, corpus: str, verb: str = "ladder") -> Path:
    """``out/ladder-quick``, or ``out/ladder-quick-novels`` for the user's own text."""
    name = "" if corpus == "sotu" else "-" + re.sub(r"[^\w.-]+", "-", Path(corpus).name).strip("-")
    return Path("out") / f"{verb}-{budget}{name}"


def tell(console: Console, sentence: str) -> None:
    """Print a sentence as it is, never broken."""
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)
