"""Sentences on the terminal."""

from __future__ import annotations

from rich.console import Console


def tell(console: Console, sentence: str) -> None:
    """Print a sentence as it is: never broken, and no part of it read as markup."""
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)
