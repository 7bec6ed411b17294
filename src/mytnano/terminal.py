"""Sentences on the terminal, and which of many processes may print them."""

from __future__ import annotations

import os
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from mytnano.words import clean


def under_torchrun() -> bool:
    """Whether torchrun started this process, which then is one of its ranks."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_chief() -> bool:
    """Whether this process may print: it is alone, or the first of its ranks."""
    return not under_torchrun() or os.environ.get("RANK", "0") == "0"


def tell(console: Console, sentence: str) -> None:
    """Print a sentence as it is: never broken, and no part of it read as markup or an emoji."""
    console.print(sentence, highlight=False, markup=False, emoji=False, soft_wrap=True)


def plain(text: str) -> Text:
    """Text of others for a table: no markup, no emoji codes, no control characters."""
    return Text(clean(text))


def sentences(console: Console) -> Callable[[str], None]:
    """A function that prints a sentence, each one once."""
    said: set[str] = set()

    def say(sentence: str) -> None:
        if sentence not in said:
            said.add(sentence)
            tell(console, sentence)

    return say
