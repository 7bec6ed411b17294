"""Checks of what was measured: costs, twins, rates, and what run folders tell besides the score.

Each is given the contents of the evidence files that it names; without one of them it is missing.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from mytnano import words
from mytnano.claims.evidence import Evidence, damaged
from mytnano.claims.figures import log
from mytnano.claims.ledger import Finding, planned_minutes, stated
from mytnano.stats.verdict import UNFIT

CLOSE_TO_COUNT = 0.02
"""BPB by which a trained bigram may differ from the counted one."""
VANISHED = 100.0
"""Last block's gradient norm over the first's from which gradients are said to vanish."""
RANK_LOST = 0.1
"""Distance from rank one below which positions are alike (Dong et al. 2021)."""
FASTER = 1.02
MASSIVE = 2.0
"""Ratios from which something is called faster, and massively so."""
SAID_COMPILED = 1.6
PAIR = math.sqrt(2) * 1.96
"""Half of the range that holds 95 % of the differences of two runs, in standard deviations."""


Found = dict[str, Any]
Check = Callable[[Evidence], Finding]

NEEDS: dict[str, tuple[str, ...]] = {}
"""Name of a check -> evidence that it rests on."""


def rests_on(*names: str) -> Callable[[Callable[..., Finding]], Check]:
    """Give a check the contents of evidence files; the first is the source of its finding."""

    def decorate(check: Callable[..., Finding]) -> Check:
        NEEDS[check.__name__] = names

        @functools.wraps(check)
        def looked(evidence: Evidence) -> Finding:
            found = {name: evidence[name] for name in names}
            if lacking := [name for name, content in found.items() if content is None]:
                return Finding("missing", not_run(lacking))
            try:
                finding = check(*found.values())
            except (LookupError, TypeError, ValueError):
                raise damaged(" or ".join(map(evidence.source, names))) from None
            return dataclasses.replace(finding, source=evidence.source(names[0]))

        return looked

    return decorate


def not_run(names: Sequence[str]) -> str:
    """Which evidence there is not, and what the ablations among it would take."""
    planned = [minutes for name in names if (minutes := planned_minutes(name))]
    told = f", about {sum(planned):.0f} core minutes if every seed is needed" if planned else ""
    return f"{', '.join(names)}: not run{told}"


@rests_on("context")
def bigram_is_the_count(found: Found) -> Finding:
    """Whether a trained bigram is the table of counts."""
    gap = found["more"]["baseline"]["bigram_gap"]
    return stated(
        abs(gap) <= CLOSE_TO_COUNT,
        f"the trained bigram is {gap:+.3f} BPB from the one counted on the same bytes",
    )


@rests_on("depth")
def gradients_vanish(found: Found) -> Finding:
    """Whether the first of four unskipped blocks gets a vanishing gradient."""
    ratio = found["more"]["stack-4"]["gradient_ratio"]
    return stated(
        ratio >= VANISHED,
        f"before the first step, the gradient of the first of four blocks is {ratio:,.0f} times "
        "smaller than the last one's",
    )


@rests_on("depth")
def rank_survives(found: Found) -> Finding:
    """Whether the signal itself reaches the last block: no other cause beside the gradients."""
    rank = found["more"]["stack-4"]["rank"]
    return stated(
        rank >= RANK_LOST,
        "after four blocks, before the first step, the positions' distance from being all alike is "
        f"{rank:.2g} of their size; below {RANK_LOST:g} the signal itself would be lost",
    )


@rests_on("init")
def a_design_diverged(found: Found) -> Finding:
    """Whether initial weights other than std 0.02 gave NaN."""
    bad = [arm["name"] for arm in found["arms"] if arm["verdict"] == "diverged"]
    return stated(
        bool(bad),
        f"no run of {len(found['designs'])} initialisations diverged" if not bad
        else f"diverged: {', '.join(bad)}",
    )  # fmt: skip


SMALL_PARTS = ("relu-gelu", "rmsnorm", "kv-heads", "activation", "ffn-width", "norm-place")


@rests_on("tokenizer", *SMALL_PARTS)
def tokenizer_outweighs_parts(tokenizer: Found, *small: Found) -> Finding:
    """Whether the best vocabulary gains more than any small part may, by their intervals."""
    gains = [-arm["high"] for arm in tokenizer["arms"] if arm["verdict"] == "better"]
    parts = {
        f"{name} ({arm['name']})": max(abs(arm["low"]), abs(arm["high"]))
        for name, found in zip(SMALL_PARTS, small, strict=True)
        for arm in found["arms"]
        if arm["verdict"] in ("better", "worse", "equivalent", "unresolved")
    }
    if not gains:
        return Finding("open", "no vocabulary was shown to be better than bytes")
    gain, (name, largest) = max(gains), max(parts.items(), key=lambda item: item[1])
    return stated(
        gain > largest,
        f"the best vocabulary gains at least {gain:.1f} % over bytes; the largest effect that "
        f"their intervals allow a part in {words.listed(SMALL_PARTS)} is {largest:.1f} %, {name}",
    )


@rests_on("forecast")
def loss_is_forecast(found: Found) -> Finding:
    """Whether runs of 4 to 8 times the compute lie where others say, by a law that N lowers."""
    gate, law = found["gate"], found["forms"][found["best"]]
    fair = gate is not None and not gate["weak"] and not gate["far"]
    if not fair:
        return Finding("open", "no run is between 4 and 8 times the compute of the others")
    tried = next(sentence for sentence in found["sentences"] if sentence.startswith("gate"))
    return stated(
        gate["passed"] and law["parameters"]["alpha"] > 0,
        f"{tried}; the law falls with the power {law['parameters']['alpha']:.3g} of the weights",
    )


@rests_on("tokenizer")
def tokens_are_a_quarter(found: Found) -> Finding:
    """Whether cl100k makes at most 250 tokens of 1,000 characters."""
    size = found["more"]["cl100k"]["bytes_per_token"]
    return stated(
        size >= 4,
        f"cl100k makes {1000 / size:.0f} tokens of 1,000 bytes of this corpus",
    )


@rests_on("costs")
def speed_up_is_quadratic(costs: Found) -> Finding:
    """Whether training on the same text becomes faster by anything like the square."""
    row = costs["tokenizer"]
    return stated(
        row["blocks_speed_up"] >= 0.5 * row["bytes_per_token"] ** 2,
        f"at equal text, the blocks of a model as the log's run {row['blocks_speed_up']:.1f} times "
        f"as fast on tokens of {row['bytes_per_token']:.2f} bytes, cl100k's on the log's own text, "
        f"as on bytes; the square of that is "
        f"{row['bytes_per_token'] ** 2:.0f}; with its head of {row['vocabulary']:,} tokens a step "
        f"is {row['whole_speed_up']:.2f} times as fast",
    )


@rests_on("costs")
def rmsnorm_is_faster(costs: Found) -> Finding:
    """Whether a training step with RMSNorm is faster than with LayerNorm."""
    speeds = costs["rmsnorm"]["speeds"]
    told = f"a training step with RMSNorm runs at {_listed(speeds)} of the speed with LayerNorm"
    return _reached(speeds, FASTER, told)


def _listed(speeds: Found) -> str:
    """``1.04 [1.01, 1.06] (width 128), ...``: median and extremes of the rounds."""
    return ", ".join(
        f"{each['median']:.2f} [{each['low']:.2f}, {each['high']:.2f}] (width {width})"
        for width, each in speeds.items()
    )


def _reached(speeds: Found, threshold: float, sentence: str) -> Finding:
    """Whether every width reaches the threshold, by all rounds; open where rounds disagree.

    The extremes of seven rounds hold the median of all that there could be with 98 % chance.
    """
    if all(each["low"] >= threshold for each in speeds.values()):
        return Finding("holds", sentence)
    if any(each["high"] < threshold for each in speeds.values()):
        return Finding("refuted", sentence)
    return Finding("open", sentence)


@rests_on("costs")
def flash_is_faster_at_128(costs: Found) -> Finding:
    """Whether fused attention is at least 2 times as fast at the log's window."""
    return _flash(costs, 128, "seconds", "as fast")


@rests_on("costs")
def flash_is_faster_at_4096(costs: Found) -> Finding:
    """Whether fused attention is at least 2 times as fast in a long window."""
    return _flash(costs, 4096, "seconds", "as fast")


@rests_on("costs")
def flash_is_smaller(costs: Found) -> Finding:
    """Whether fused attention needs at most half of the memory in a long window."""
    return _flash(costs, 4096, "peak_bytes", "as small")


def _flash(costs: Found, T: int, field: str, word: str) -> Finding:
    values = {row["kernel"]: row[field] for row in costs["attention"]["rows"] if row["T"] == T}
    if None in values.values():
        return Finding("missing", "this device does not tell how much memory was used")
    ratio = values["explicit"] / values["flash"]
    return stated(
        ratio >= MASSIVE,
        f"at {T} tokens the fused kernel is {ratio:.1f} times {word}, forward and backward",
    )


@rests_on("costs")
def compiling_pays(costs: Found) -> Finding:
    """Whether compiled steps are as much faster as the log says."""
    speeds = costs["compile"]["speeds"]
    told = f"compiled steps run at {_listed(speeds)} of the speed of eager ones"
    best = max(speeds, key=lambda width: speeds[width]["median"])
    return _reached({best: speeds[best]}, SAID_COMPILED, told)


@rests_on("decoding")
def one_text_is_written_faster(decoding: Found) -> Finding:
    """Whether GQA and MQA write one text of the log's length 2 times as fast, or faster, always.

    It is refuted if one of them is slower than that in all.
    """
    return _decoding(decoding, 1, 256)


@rests_on("decoding")
def many_texts_are_written_faster(decoding: Found) -> Finding:
    """The same for many long texts at a time, whose caches are large."""
    return _decoding(decoding, 64, 4096)


def _decoding(found: Found, texts: int, positions: int) -> Finding:
    speeds = {
        row["design"]: row["speed_up"]
        for row in found["rows"]
        if (row["texts"], row["positions"]) == (texts, positions) and row["design"] != "mha"
    }
    told = ", ".join(
        f"{name.upper()} writes {each['median']:.2f} [{each['low']:.2f}, {each['high']:.2f}] times "
        "as fast"
        for name, each in speeds.items()
    )
    at_a_time = "one text" if texts == 1 else f"{texts} texts at a time"
    return _reached(speeds, MASSIVE, f"{at_a_time}, at {positions:,} positions: {told} as MHA")


@rests_on("twins")
def twins_differ_less(twins: Found) -> Finding:
    """Whether 0.027 nats of 2.975 are more than two runs of one design differ by."""
    said, range_ = 100 * 0.027 / 2.975, PAIR * twins["deviation_percent"]
    return stated(
        said > range_,
        f"the log's two rows differ by {said:.1f} %; two runs of one design, here, differ by up to "
        f"{range_:.1f} % in 95 of 100 cases ({twins['twins']} twins)",
    )


@rests_on("twins")
def one_run_suffices(twins: Found) -> Finding:
    """Whether the log's steps are larger than what two runs of one design differ by."""
    printed = [row["loss"] for row in log()["printed"].values()]
    steps = [100 * abs(a / b - 1) for a, b in zip(printed[1:], printed, strict=False)]
    steps = [step for step in steps if 0 < step < 20]  # the rest change their unit, or are copies
    range_ = PAIR * twins["deviation_percent"]
    within = sum(step < range_ for step in steps)
    return stated(
        within == 0,
        f"{within} of the {len(steps)} steps that the log prints within one unit are smaller than "
        f"the {range_:.1f} % by which two runs of one design differ here in 95 of 100 cases",
    )


@rests_on("rates")
def small_rates_suffice(rates: Found) -> Finding:
    """Whether the log's rates cost nothing against a tuned one."""
    told = "; ".join(arm["sentence"] for arm in rates["arms"])
    verdicts = {arm["verdict"] for arm in rates["arms"]}
    if verdicts & {"worse", *UNFIT}:
        return Finding("refuted", told)
    return Finding("open" if "unresolved" in verdicts else "holds", told)
