"""Where the original log's number came from a defect, and the arms that show it.

The facts about the log's code and its results.csv are from an audit of its repository.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mytnano.report.compare import LOG_CHARACTERS, token_unit
from mytnano.report.data import Arm, Results
from mytnano.words import number, percent, signed


@dataclass(frozen=True)
class Defect:
    """One defect: the rung that repeats it, the rung without it, and what was wrong."""

    title: str
    as_logged: str
    fair: str
    text: str


@dataclass(frozen=True)
class Flag:
    """A number of the log that contradicts itself, with what we measured about it, if we did."""

    title: str
    text: str
    measured: str = ""


DEFECTS = (
    Defect(
        "The average’s printed number",
        "average-positions",
        "average-current",
        "The summary prints 2.4619 for the averaged context. The log’s own results.csv has 3.0585 "
        "for that arm, at the same learning rate and window: an average in which the current token "
        "is one of many loses what the bigram knows.",
    ),
    Defect(
        "Learning rate 1e-5",
        "logged-lr",
        "block",
        "Stages 2 to 5 ran at a constant 1e-5 or 2e-5, whatever the design. Doubling the rate "
        "gained more than most of the designs did, so the table ranks how fast each "
        "design learns at 1e-5.",
    ),
    Defect(
        "Two blocks called four",
        "logged-two-blocks",
        "stack",
        "The script behind “4-Layer Stacked Blocks” sets Nx=2, and its 271,200 parameters are "
        "those of two blocks. The fair arm has four.",
    ),
    Defect(
        "Dropout 0.5",
        "logged-dropout",
        "pre-norm",
        "Half of all activations were dropped in models of under a million parameters that were "
        "still underfitting. In the log’s own results.csv that cost 0.16 to 0.18 nats.",
    ),
    Defect(
        "Tied head at standard deviation 0.354",
        "logged-init",
        "pre-norm",
        "The factor 1/√(2N), meant for residual projections, became the standard deviation of "
        "every matrix and, through tying, of the embedding: logits start far too large. Its "
        "own results.csv has 3.13 for such arms, the unigram entropy of its text, and no 11.776.",
    ),
    Defect(
        "The last step’s credit",
        "logged-final-init",
        "mytnano",
        "The summary credits initialisation and a cosine schedule with the step from 7.96 to 7.42. "
        "The code of that stage has no schedule, and the two rows are one architecture trained on "
        "8.2 million and on 3.28 billion tokens.",
    ),
)


def flags(results: Results) -> list[Flag]:
    """The two errors of unit in the log's tables, and the level of its final number."""
    return [
        Flag(
            "11.776 nats per character is no loss of a model that has learned anything",
            f"Guessing evenly among the log’s {LOG_CHARACTERS} characters costs "
            f"ln {LOG_CHARACTERS} = {math.log(LOG_CHARACTERS):.2f} nats. The “Baseline "
            "Transformer, Character-level Tokenizer” row says 11.776. Guessing evenly among the "
            f"100,352 tokens of cl100k_base costs less: ln 100,352 = {math.log(100_352):.2f}.",
        ),
        Flag(
            "A loss per token says nothing across vocabularies",
            "“11.776 → 7.9622, massive loss reduction from the tokenizer alone” compares nats per "
            "character with nats per token of about five bytes. A longer token is harder to guess "
            "and there are fewer of them; only per byte do the two share a unit.",
            _across_vocabularies(results),
        ),
        Flag(
            "7.4214 nats is worse than counting tokens",
            "The unigram entropy of WikiText-103 in cl100k_base is 7.14 to 7.18 nats per token. A "
            "table of token frequencies, which ignores all context, does better than the log’s "
            "final model.",
        ),
    ]


def _across_vocabularies(results: Results) -> str:
    before, after = results.arms.get("pre-norm"), results.arms.get("cl100k")
    losses = [arm and arm.mean("test_loss") for arm in (before, after)]
    if not (before and after) or None in losses:
        return ""
    scores = [_of_mean(arm) for arm in (before, after)]
    return (
        f"Here the same change moves the loss from {number(losses[0])} nats per "
        f"{token_unit(before.runs[0].row['tokenizer'])} to {number(losses[1])} nats per token, "
        f"the accuracy from {percent(before.mean('test_accuracy'))} to "
        f"{percent(after.mean('test_accuracy'))}, and bits per byte from {scores[0]} to "
        f"{scores[1]} ({signed((after.mean() or 0) - (before.mean() or 0))})."
    )


def _of_mean(arm: Arm) -> str:
    return number(arm.mean()) + ("" if arm.healthy else f" [{arm.status()}]")
