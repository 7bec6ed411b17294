"""Sentences on the terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console


def tell(console: Console, sentence: str) -> None:
    """Print a sentence as it is: never broken, and no part of it read as markup."""
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def sentences(console: Console) -> Callable[[str], None]:
    """A function that prints a sentence, each one once."""
    said: set[str] = set()

    def say(sentence: str) -> None:
        if sentence not in said:
            said.add(sentence)
            tell(console, sentence)

    return say
