"""The verdict on a claim from the states of its parts.

* ``not run``: it has no parts, or one that has not been run.
* ``holds``: every part holds.
* ``refuted``: a part is refuted and none holds.
* ``partly``: one holds and another is refuted.
* ``unresolved``: no part is refuted, but not all hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mytnano.claims import figures, measured
from mytnano.claims.evidence import Evidence, damaged
from mytnano.claims.ledger import Claim, Finding, Part


@dataclass(frozen=True)
class Judged:
    """A claim with what was found.

    Attributes:
        verdict: one of :data:`~mytnano.claims.ledger.VERDICT_WORDS`.
        findings: one a part.
    """

    claim: Claim
    verdict: str
    findings: tuple[Finding, ...]

    @property
    def as_predicted(self) -> bool | None:
        """Whether our prediction came true; None where nothing was predicted or run."""
        if self.claim.predict is None or self.verdict == "not run":
            return None
        return self.verdict == self.claim.predict

    @property
    def sources(self) -> list[str]:
        """Evidence files, each once."""
        return list(dict.fromkeys(f.source for f in self.findings if f.source))


def judge(claim: Claim, evidence: Evidence) -> Judged:
    """Look at every part."""
    findings = tuple(found(part, evidence) for part in claim.parts)
    return Judged(claim, verdict([finding.state for finding in findings]), findings)


def verdict(states: Sequence[str]) -> str:
    """The claim's verdict; see the module."""
    if not states or "missing" in states:
        return "not run"
    if "refuted" in states:
        return "partly" if "holds" in states else "refuted"
    return "unresolved" if "open" in states else "holds"


def found(part: Part, evidence: Evidence) -> Finding:
    """The state of one part."""
    if part.check:
        return run_check(part.check, evidence)
    answer = evidence[part.ablation]
    if answer is None:
        return Finding("missing", measured.not_run([part.ablation]))
    source = evidence.source(part.ablation)
    try:
        (arm,) = (each for each in answer["arms"] if each["name"] == part.arm)
        verdict, sentence = arm["verdict"], arm["sentence"]
    except (LookupError, TypeError, ValueError):
        raise damaged(source) from None
    state = (
        "holds" if verdict in part.holds else "refuted" if verdict in part.refutes else "open"
    )  # fmt: skip
    return Finding(state, sentence, source)


def run_check(name: str, evidence: Evidence) -> Finding:
    """Run a check by name: one of the log's figures, or one of what was measured."""
    figure: Callable[[], Finding] | None = getattr(figures, name, None)
    return figure() if figure else getattr(measured, name)(evidence)


TWINS, FORECAST = "twins", "forecast"
SHIPPED = (TWINS, FORECAST)
"""Evidence that `mytnano claims run` does not make: it was there before any claim was written down,
or is of a text that this package does not have."""


def needed(claim: Claim) -> list[str]:
    """Ablations and measurements that a claim rests on and that can be run, each once."""
    names: dict[str, None] = {}
    for part in claim.parts:
        rested = (part.ablation,) if part.ablation else measured.NEEDS.get(part.check, ())
        names |= dict.fromkeys(name for name in rested if name not in SHIPPED)
    return list(names)


def score(judged: Sequence[Judged]) -> tuple[int, int, float | None]:
    """Of our predictions: how many came true, how many were tested, and their Brier score.

    The Brier score is the mean of (p - 1 or 0)^2 with p the chance that we gave our prediction: 0
    is perfect, and 0.25 is what saying one half to everything earns (Brier 1950).
    """
    tested = [(each.claim.p, each.as_predicted) for each in judged if each.as_predicted is not None]
    right = sum(bool(came) for _, came in tested)
    squares = [(p - float(bool(came))) ** 2 for p, came in tested if p is not None]
    return right, len(tested), sum(squares) / len(squares) if squares else None
