"""Verdicts in sentences, a table and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mytnano.stats import eprocess
from mytnano.stats.multiplier import Multiplier
from mytnano.stats.power import POWER
from mytnano.stats.verdict import UNFIT, Rule, Verdict


@dataclass(frozen=True)
class Worth:
    """An arm's compute multiplier, with what it would be at the ends of the interval."""

    value: Multiplier
    low: Multiplier
    high: Multiplier

    def __str__(self) -> str:
        return f"{self.value} [{self.low}, {self.high}]"


def sentence(verdict: Verdict, baseline: str, rule: Rule, worth: Worth | None = None) -> str:
    """What is said of one arm, without a full stop."""
    text = _said(verdict, baseline, rule)
    return f"{text}; worth {worth} compute" if worth else text


def _said(v: Verdict, baseline: str, rule: Rule) -> str:
    if v.verdict in UNFIT:
        return f"{v.name} {_has(v.verdict)}, so it is not compared with {baseline}"
    seeds = f"{v.pairs} paired seed{'s' * (v.pairs != 1)}"
    if v.verdict == "identical":
        return f"{v.name} is identical to {baseline}: not one of {seeds} differs"
    if v.verdict in ("better", "worse"):
        size = f"by {_size(v)}"
        return f"{v.name} is {v.verdict} than {baseline} {size}, {seeds}, {_p(v, rule)}"
    if v.verdict == "equivalent":
        known = f"; the difference is real ({_p(v, rule)}) but too small to matter"
        return (
            f"{v.name} is equivalent to {baseline}: {difference(v)} % {interval(v)} is inside the "
            f"margin of {rule.margin:g} %, {seeds}{known if v.detected else ''}"
        )
    return f"{v.name} against {baseline} is unresolved: {_unresolved(v, seeds, rule)}"


def _has(status: str) -> str:
    """``has diverged``, ``is undertrained``."""
    return f"{'is' if status == 'undertrained' else 'has'} {status}"


def interaction(v: Verdict, whole: str, parts: str, rule: Rule) -> str:
    """What is said of what several changes do together beyond the sum of what each does alone.

    Args:
        v: on the difference of ``whole`` from that sum; better is more than the sum.
        whole: name of all changes together. parts: their names.
    """
    if v.verdict in UNFIT:
        return f"no interaction is known, as {whole} or one of {parts} {_has(v.verdict)}"
    seeds = f"{v.pairs} paired seed{'s' * (v.pairs != 1)}"
    if v.verdict in ("better", "worse"):
        beyond = "better" if v.verdict == "better" else "worse"
        return f"{whole} is {beyond} than the sum of {parts} by {_size(v)}, {seeds}, {_p(v, rule)}"
    if v.verdict == "identical":
        return f"{whole} is the sum of {parts} to the last bit: {seeds}"
    if v.verdict == "equivalent":
        return (
            f"{whole} is the sum of {parts}: an interaction of {difference(v)} % {interval(v)} is "
            f"inside the margin of {rule.margin:g} %, {seeds}"
        )
    return f"the interaction of {parts} is unresolved: {_unresolved(v, seeds, rule)}"


def _size(v: Verdict) -> str:
    """``0.80 % [0.50, 1.10]``: how much, where the direction has been said."""
    assert v.difference is not None
    low, high = sorted((abs(v.low), abs(v.high)))
    digits = decimals(v)
    return f"{abs(v.difference):.{digits}f} % [{_end(low, digits)}, {_end(high, digits)}]"


def _p(v: Verdict, rule: Rule) -> str:
    text = p_value(v)
    beside = f", sign-flip p = {v.sign_flip_p:.2g}" if rule.fixed else ""
    return f"p {'' if text.startswith('<') else '= '}{text}{beside}"


def _unresolved(v: Verdict, seeds: str, rule: Rule) -> str:
    if v.pairs < eprocess.FEWEST or math.isinf(v.detectable or 0.0):
        least = v.pairs_needed
        return f"{seeds} cannot decide at this alpha, whatever they show; it takes at least {least}"
    seen = f"{difference(v)} % {interval(v)}, {seeds}, {_p(v, rule)}"
    if v.contradictory:
        return (
            f"{seen}; early and late seeds contradict each other; were they all trained the same "
            "way?"
        )
    if v.detectable_percent is None:
        return seen
    more = ""
    if v.pairs_for_margin and v.pairs_for_margin > v.pairs:
        more = f"; about {v.pairs_for_margin} would narrow the interval to the margin"
    found = (
        f"this many seeds would detect a difference of {v.detectable_percent:.2g} % with "
        f"probability {POWER:g}"
    )
    return f"{seen}; {found}{more}"


def difference(v: Verdict) -> str:
    """The mean difference with its sign, in percent: negative where the arm's metric is lower."""
    return "" if v.difference is None else _signed(v.difference, decimals(v))


def interval(v: Verdict) -> str:
    """``[-0.10, 0.20]``; a dash while there is none."""
    if math.isinf(v.low) and math.isinf(v.high):
        return "–"
    digits = decimals(v)
    return f"[{_end(v.low, digits)}, {_end(v.high, digits)}]"


def p_value(v: Verdict) -> str:
    """The adjusted p-value with two significant digits, or ``< 0.0001``."""
    return f"{v.p_adjusted:.2g}" if v.p_adjusted >= 1e-4 else "< 0.0001"


def decimals(v: Verdict) -> int:
    """Decimals that give the width of the interval two significant digits.

    Without a width they give the difference two, and are at least two. If an end that is not zero
    would be written as zero, up to two more, so that an interval without zero does not look like
    one with it.
    """
    width = v.high - v.low
    if not (math.isfinite(width) and width > 0):
        size = abs(v.difference or 0.0)
        return min(max(1 - math.floor(math.log10(size)), 2), 6) if size else 2
    least = min(max(1 - math.floor(math.log10(width)), 0), 6)
    ends = [end for end in (v.low, v.high) if end]
    enough = (
        digits
        for digits in range(least, least + 2)
        if all(float(f"{end:.{digits}f}") for end in ends)
    )
    return next(enough, least + 2)


def _end(value: float, digits: int) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def explained(baseline: str, metric: str, rule: Rule, arms: int) -> list[str]:
    """How the verdicts were reached, in sentences without full stops."""
    side = "higher" if rule.higher_is_better else "lower"
    p = f"p (Holm over {arms} arms)" if arms > 1 else "p"
    confidence = f"{100 * (1 - rule.alpha):g} %{', all arms together' if arms > 1 else ''}"
    if rule.fixed:
        how = "are of the paired t-test: right only if the number of seeds was fixed beforehand"
    else:
        how = "hold however often one looks and whenever one stops"
    return [
        f"baseline {baseline}, metric {metric} ({side} is better), differences in percent of the "
        f"baseline, margin {rule.margin:g} %, alpha {rule.alpha:g}",
        f"{p} and intervals ({confidence}) {how}",
    ]


def verdict_table(verdicts: Sequence[Verdict], worth: Sequence[Worth | None]) -> Table:
    """A row an arm; differences and intervals in percent of the baseline."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    named = ["arm", "verdict", "difference %", "interval %", "p", "seeds"]
    if any(worth):
        named.append("compute")
    for name in named:
        left = name in ("arm", "verdict")
        table.add_column(
            name, justify="left" if left else "right", no_wrap=name != "arm", overflow="fold"
        )
    for v, each in zip(verdicts, worth, strict=True):
        judged = v.verdict not in UNFIT
        seen = (difference(v), interval(v), p_value(v)) if judged else ("", "", "")
        row = [escape(v.name), v.verdict, *seen, str(v.pairs)]
        table.add_row(*row, *([str(each.value) if each else ""] if any(worth) else []))
    return table


def from_json(row: Mapping[str, Any]) -> Verdict:
    """The verdict that :func:`as_json` wrote to a file, where what is infinite is missing."""
    known = [field.name for field in fields(Verdict) if row.get(field.name) is not None]
    return Verdict(**{name: row[name] for name in known})


def as_json(verdict: Verdict, said: str, worth: Worth | None) -> dict[str, Any]:
    """Everything that is known of one arm, as plain values."""
    value = {"sentence": said, **asdict(verdict)}
    if worth:
        value["compute_multiplier"] = asdict(worth)
    return value
