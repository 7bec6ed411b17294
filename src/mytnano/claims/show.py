"""The claims in the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mytnano.claims.evidence import Evidence
from mytnano.claims.judge import Judged, needed, score
from mytnano.claims.ledger import VERDICT_WORDS
from mytnano.terminal import tell

STYLES = {"holds": "green", "refuted": "red", "partly": "yellow", "not run": "dim"}
COIN = 0.25
"""Brier score of saying one half every time."""

MARKS = {"holds": "+", "refuted": "-", "open": "?", "missing": " "}


def as_json(judged: Sequence[Judged], evidence: Evidence) -> list[dict[str, Any]]:
    """A value a claim: what is said, decided, predicted and found, and what it rests on."""
    return [
        {
            **each.claim.model_dump(exclude={"parts"}),
            "verdict": each.verdict,
            "as_predicted": each.as_predicted,
            "parts": [
                {
                    **part.model_dump(exclude_defaults=True),
                    "state": finding.state,
                    "sentence": finding.sentence,
                    "evidence": finding.source,
                }
                for part, finding in zip(each.claim.parts, each.findings, strict=True)
            ],
            "run_minutes": minutes(each, evidence),
            "notes": notes(each, evidence),
        }
        for each in judged
    ]


def minutes(judged: Judged, evidence: Evidence) -> float | None:
    """Minutes of the runs behind a claim by the clock, shared ones counted whole; None without."""
    found = [evidence[name] for name in judged.claim.questions]
    spent = [answer["run_minutes"] for answer in found if answer]
    return sum(spent) if spent else None


def print_claims(judged: Sequence[Judged], evidence: Evidence, console: Console) -> None:
    """A row a claim, and how our predictions fared."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("claim", "the log says", "verdict", "predicted"):
        table.add_column(name, no_wrap=name != "the log says")
    for each in judged:
        verdict = Text(each.verdict, STYLES.get(each.verdict, ""))
        table.add_row(each.claim.id, each.claim.says, verdict, each.claim.predict or "")
    console.print(table)
    console.print(summary(judged), highlight=False, soft_wrap=True)
    for note in dict.fromkeys(note for each in judged for note in notes(each, evidence)):
        tell(console, f"note: {note}")


def notes(judged: Judged, evidence: Evidence) -> list[str]:
    """On one's own evidence for a claim that is not used."""
    return [note for name in needed(judged.claim) if (note := evidence.note(name))]


def summary(judged: Sequence[Judged]) -> str:
    """How many have which verdict, and the score of our predictions."""
    counts = [(word, sum(each.verdict == word for each in judged)) for word in VERDICT_WORDS]
    told = ", ".join(
        f"{count} {'hold' if word == 'holds' and count > 1 else word}"
        for word, count in counts
        if count
    )
    right, tested, brier = score(judged)
    if not tested:
        return told
    if brier is None:
        return f"{told}; of {tested} predictions {right} came true"
    side = "better" if brier < COIN else "worse" if brier > COIN else "no better"
    return (
        f"{told}; of {tested} predictions {right} came true, with a Brier score of {brier:.2f}, "
        f"{side} than the {COIN} of giving each one half"
    )


def print_claim(judged: Judged, evidence: Evidence, console: Console) -> None:
    """One claim with every part and what it rests on."""
    claim = judged.claim
    lines = [f"{claim.id} (stage {claim.stage}): {claim.says}"]
    if claim.printed:
        lines.append(f"printed: {claim.printed}")
    lines.append(f"verdict: {judged.verdict}")
    if claim.predict:
        right = judged.as_predicted
        came = "" if right is None else f"; {'came true' if right else 'did not come true'}"
        lines.append(f"predicted: {claim.predict}, with probability {claim.p:g}{came}")
    lines += [f"  [{MARKS[each.state]}] {each.sentence}" for each in judged.findings]
    lines += [f"evidence: {source}" for source in judged.sources]
    lines += [f"note: {note}" for note in notes(judged, evidence)]
    spent = minutes(judged, evidence)
    if spent:
        lines.append(f"runs: {spent:.0f} minutes by the clock, added up")
    if claim.remark:
        lines.append(f"remark: {claim.remark}")
    if claim.needs:
        lines.append(f"needs: {claim.needs}")
    elif judged.verdict == "not run":
        lines.append(f"`mytnano claims run {claim.id}` runs what is missing")
    for line in lines:
        tell(console, line)
