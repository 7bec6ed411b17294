"""What one condition of a claim was found to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["holds", "refuted", "open", "missing"]


@dataclass(frozen=True)
class Finding:
    """The state of a condition, in a sentence, with the file that it rests on.

    ``open`` was looked at without a decision; ``missing`` has not been run.
    """

    state: State
    sentence: str
    source: str = ""


def stated(holds: bool, sentence: str, source: str = "") -> Finding:
    """A condition that was decided."""
    return Finding("holds" if holds else "refuted", sentence, source)
