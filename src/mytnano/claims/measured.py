"""Checks of what was measured: costs, twins, rates, and what run folders tell besides the score."""

from __future__ import annotations

import math

from mytnano.claims.evidence import Evidence
from mytnano.claims.figures import log
from mytnano.claims.findings import Finding, stated

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


def _missing(name: str) -> Finding:
    return Finding("missing", f"'{name}' has not been measured: `mytnano claims run` does it")


def bigram_is_the_count(evidence: Evidence) -> Finding:
    """Whether a trained bigram is the table of counts."""
    found = evidence["context"]
    if found is None:
        return _missing("context")
    gap = found["more"]["baseline"]["bigram_gap"]
    return stated(
        abs(gap) <= CLOSE_TO_COUNT,
        f"the trained bigram is {gap:+.3f} BPB from the one counted on the same bytes",
        evidence.source("context"),
    )


def gradients_vanish(evidence: Evidence) -> Finding:
    """Whether the first of four unskipped blocks gets a vanishing gradient."""
    found = evidence["depth"]
    if found is None:
        return _missing("depth")
    ratio = found["more"]["stack-4"]["gradient_ratio"]
    return stated(
        ratio >= VANISHED,
        f"before the first step, the gradient of the first of four blocks is {ratio:,.0f} times "
        "smaller than the last one's",
        evidence.source("depth"),
    )


def rank_survives(evidence: Evidence) -> Finding:
    """Whether the signal itself reaches the last block: no other cause beside the gradients."""
    found = evidence["depth"]
    if found is None:
        return _missing("depth")
    rank = found["more"]["stack-4"]["rank"]
    return stated(
        rank >= RANK_LOST,
        f"after four blocks, before the first step, the positions' distance from being all alike "
        f"is {rank:.2g} of their size: the signal is gone on the way forward as well",
        evidence.source("depth"),
    )


def no_design_diverged(evidence: Evidence) -> Finding:
    """Whether initial weights other than std 0.02 gave NaN."""
    found = evidence["init"]
    if found is None:
        return _missing("init")
    bad = [arm["name"] for arm in found["arms"] if arm["verdict"] == "diverged"]
    return stated(
        bool(bad),
        f"no run of {len(found['designs'])} initialisations diverged" if not bad
        else f"diverged: {', '.join(bad)}",
        evidence.source("init"),
    )  # fmt: skip


def tokenizer_outweighs_parts(evidence: Evidence) -> Finding:
    """Whether the best vocabulary gains more than any small part may, by their intervals."""
    names = ("tokenizer", "relu-gelu", "rmsnorm", "kv-heads", "activation")
    found = {name: evidence[name] for name in names}
    missing = [name for name, content in found.items() if content is None]
    if missing:
        return _missing(missing[0])
    gains = [-arm["high"] for arm in found["tokenizer"]["arms"] if arm["verdict"] == "better"]
    parts = {
        f"{name} ({arm['name']})": max(abs(arm["low"]), abs(arm["high"]))
        for name in names[1:]
        for arm in found[name]["arms"]
        if arm["verdict"] in ("better", "worse", "equivalent", "unresolved")
    }
    if not gains:
        return Finding("open", "no vocabulary was shown to be better than bytes")
    gain, (name, largest) = max(gains), max(parts.items(), key=lambda item: item[1])
    return stated(
        gain > largest,
        f"the best vocabulary gains at least {gain:.1f} % over bytes; the largest effect that a "
        f"part may have is {largest:.1f} %, {name}",
        evidence.source("tokenizer"),
    )


def tokens_are_a_quarter(evidence: Evidence) -> Finding:
    """Whether cl100k makes at most 250 tokens of 1,000 characters."""
    found = evidence["tokenizer"]
    if found is None:
        return _missing("tokenizer")
    size = found["more"]["cl100k"]["bytes_per_token"]
    return stated(
        size >= 4,
        f"cl100k makes {1000 / size:.0f} tokens of 1,000 bytes of this corpus",
        evidence.source("tokenizer"),
    )


def speed_up_is_quadratic(evidence: Evidence) -> Finding:
    """Whether training on the same text becomes faster by anything like the square."""
    costs = evidence["costs"]
    if costs is None:
        return _missing("costs")
    row = costs["tokenizer"]
    return stated(
        row["blocks_speed_up"] >= 0.5 * row["bytes_per_token"] ** 2,
        f"at equal text, the blocks of a model as the log's run {row['blocks_speed_up']:.1f} times "
        f"as fast on tokens of {row['bytes_per_token']:.2f} bytes as on bytes, whose square is "
        f"{row['bytes_per_token'] ** 2:.0f}; with its head of {row['vocabulary']:,} tokens a step "
        f"is {row['whole_speed_up']:.2f} times as fast",
        evidence.source("costs"),
    )


def rmsnorm_is_faster(evidence: Evidence) -> Finding:
    """Whether a training step with RMSNorm is faster than with LayerNorm."""
    costs = evidence["costs"]
    if costs is None:
        return _missing("costs")
    ratios = costs["rmsnorm"]["ratios"]
    low = min(ratios.values())
    return stated(
        low >= FASTER,
        "a training step with RMSNorm runs at "
        + ", ".join(f"{ratio:.2f} (width {width})" for width, ratio in ratios.items())
        + " of the speed with LayerNorm",
        evidence.source("costs"),
    )


def flash_is_faster_at_128(evidence: Evidence) -> Finding:
    """Whether fused attention is massively faster at the log's window."""
    return _flash(evidence, 128, "seconds", "as fast")


def flash_is_faster_at_4096(evidence: Evidence) -> Finding:
    """Whether fused attention is massively faster in a long window."""
    return _flash(evidence, 4096, "seconds", "as fast")


def flash_is_smaller(evidence: Evidence) -> Finding:
    """Whether fused attention needs much less memory in a long window."""
    return _flash(evidence, 4096, "peak_bytes", "as small")


def _flash(evidence: Evidence, T: int, field: str, word: str) -> Finding:
    costs = evidence["costs"]
    if costs is None:
        return _missing("costs")
    values = {row["kernel"]: row[field] for row in costs["attention"]["rows"] if row["T"] == T}
    ratio = values["explicit"] / values["flash"]
    return stated(
        ratio >= MASSIVE,
        f"at {T} tokens the fused kernel is {ratio:.1f} times {word}, forward and backward",
        evidence.source("costs"),
    )


def compiling_pays(evidence: Evidence) -> Finding:
    """Whether compiled steps are as much faster as the log says."""
    costs = evidence["costs"]
    if costs is None:
        return _missing("costs")
    ratios = costs["compile"]["ratios"]
    return stated(
        max(ratios.values()) >= SAID_COMPILED,
        "compiled steps run at "
        + ", ".join(f"{ratio:.2f} (width {width})" for width, ratio in ratios.items())
        + " of the speed of eager ones, and compute the same function but for rounding",
        evidence.source("costs"),
    )


def twins_differ_less(evidence: Evidence) -> Finding:
    """Whether 0.027 nats of 2.975 are more than two runs of one design differ by."""
    twins = evidence["twins"]
    if twins is None:
        return _missing("twins")
    said, range_ = 100 * 0.027 / 2.975, PAIR * twins["deviation_percent"]
    return stated(
        said > range_,
        f"the log's two rows differ by {said:.1f} %; two runs of one design, here, differ by up to "
        f"{range_:.1f} % in 95 of 100 cases ({twins['twins']} twins)",
        evidence.source("twins"),
    )


def one_run_suffices(evidence: Evidence) -> Finding:
    """Whether the log's steps are larger than what two runs of one design differ by."""
    twins = evidence["twins"]
    if twins is None:
        return _missing("twins")
    printed = [row["loss"] for row in log()["printed"].values()]
    steps = [100 * abs(a / b - 1) for a, b in zip(printed[1:], printed, strict=False)]
    steps = [step for step in steps if 0 < step < 20]  # the rest change their unit, or are copies
    range_ = PAIR * twins["deviation_percent"]
    within = sum(step < range_ for step in steps)
    return stated(
        within == 0,
        f"{within} of the {len(steps)} steps that the log prints within one unit are smaller than "
        f"the {range_:.1f} % by which two runs of one design differ here in 95 of 100 cases",
        evidence.source("twins"),
    )


def small_rates_suffice(evidence: Evidence) -> Finding:
    """Whether the log's rates cost nothing against a tuned one."""
    rates = evidence["rates"]
    if rates is None:
        return _missing("rates")
    bad = [arm for arm in rates["arms"] if arm["verdict"] in ("worse", "undertrained", "collapsed")]
    told = "; ".join(arm["sentence"] for arm in rates["arms"])
    return stated(not bad, told, evidence.source("rates"))
