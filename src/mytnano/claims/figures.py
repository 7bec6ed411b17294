"""Checks of the log's published figures: units, rows that exist, designs that were built.

They need no run. What they hold against each other is in ``log.yaml``.
"""

from __future__ import annotations

import functools
import math
from importlib import resources
from typing import Any

import yaml

from mytnano.claims.ledger import Finding, stated

SOURCE = "src/mytnano/claims/log.yaml"
ROUNDING = 0.00011
"""Two figures printed with four decimals may differ by this much and be the same."""


@functools.cache
def log() -> dict[str, Any]:
    """The content of ``log.yaml``."""
    file = resources.files("mytnano.claims") / "log.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def bits_follow(row: str) -> bool:
    """Whether a printed row's bits are its nats over ln 2."""
    printed = log()["printed"][row]
    return abs(printed["loss"] / math.log(2) - printed["bits"]) < 2 * ROUNDING


def bigram_units() -> Finding:
    """Whether 2.4640 nats are 3.5548 bits."""
    bits = log()["printed"]["bigram"]["loss"] / math.log(2)
    return stated(
        bits_follow("bigram"), f"2.4640 nats are {bits:.4f} bits, and 3.5548 is printed", SOURCE
    )


def character_loss_is_possible() -> Finding:
    """Whether a loss per character can be as high as printed."""
    symbols, loss = log()["characters"], log()["printed"]["character-baseline"]["loss"]
    uniform = math.log(symbols)
    return stated(
        loss <= uniform,
        f"guessing evenly among {symbols} characters costs ln {symbols} = {uniform:.2f} nats, and "
        f"{loss:.4f} is printed; its BPC of 11.5165 is ln {log()['cl100k']:,} = "
        f"{math.log(log()['cl100k']):.4f}, the nats of guessing evenly among cl100k's tokens",
        SOURCE,
    )


def losses_share_a_unit() -> Finding:
    """Whether nats per token compare across vocabularies.

    A text of independent, even bits is written in tokens of one bit and in tokens of five bits.
    Both models are the same distribution over texts; the losses per token differ by a factor.
    """
    single, five = math.log(2), math.log(2**5)
    per_byte = {8 * single / math.log(2), 8 / 5 * five / math.log(2)}
    same = max(per_byte) - min(per_byte) < 1e-9
    size = "the same 8 bits a byte" if same else "8 bits a byte"
    return stated(
        math.isclose(single, five),
        f"the same distribution over texts of even bits costs {single:.3f} nats a token in tokens "
        f"of one bit and {five:.3f} in tokens of five, and {size} in both: a loss per token has "
        "its vocabulary's unit",
        SOURCE,
    )


def stage_six_is_logged() -> Finding:
    """Whether stage 06 has no rows (what the log says), or has some."""
    rows = log()["csv"].get("06", [])
    return stated(not rows, f"results.csv has {len(rows)} rows of stage 06: {_list(rows)}", SOURCE)


def mha_row_is_logged() -> Finding:
    """Whether 7.9622 is a row of its stage."""
    return _logged("bpe", "07")


def stage_nine_is_logged() -> Finding:
    """Whether 7.4214 is a row of its stage."""
    return _logged("final-2", "09")


def _logged(row: str, stage: str) -> Finding:
    loss, rows = log()["printed"][row]["loss"], log()["csv"][stage]
    nearest = min(rows, key=lambda each: abs(each - loss))
    return stated(
        abs(nearest - loss) < ROUNDING,
        f"{loss:.4f} is printed for stage {stage}; of its {len(rows)} rows in results.csv the "
        f"nearest is {nearest:g}",
        SOURCE,
    )


def stage_nine_saw_the_same_text() -> Finding:
    """Whether the two numbers whose difference is called tuning saw as many tokens."""
    tokens = {
        loss: run["steps"] * run["batch"] * run["context"]
        for loss, run in log()["final_runs"].items()
    }
    before, after = tokens["7.95"], tokens["7.42"]
    return stated(
        before == after,
        f"7.95 comes after {before / 1e6:.1f} million training tokens, 7.42 after "
        f"{after / 1e6:,.0f} million, {after / before:.0f} times as many, with the same design",
        SOURCE,
    )


def final_design_is_the_winners() -> Finding:
    """Whether the final model's code has what the stages found best."""
    winners, code = log()["winners"], log()["final_code"]
    differ = [f"{name}: {code[name]} instead of {won}" for name, won in winners.items()
              if code[name] != won]  # fmt: skip
    said = _list(differ) if differ else "nothing"
    return stated(not differ, f"the final model's code differs from the winners in {said}", SOURCE)


def average_knew_positions() -> Finding:
    """Whether the averaging arm was ignorant of positions, as its failure is explained."""
    return stated(
        not log()["adds_positions"],
        "the log's averaging arm adds learned positions to every token before it averages",
        SOURCE,
    )


def _list(values: list) -> str:
    return "; ".join(str(value) for value in values)
