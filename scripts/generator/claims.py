"""The regions about the log's claims: the ledger's verdicts, and what they rest on."""

from __future__ import annotations

from generator.tables import Project, conditions_of, environments_of, paragraphs, table
from mytnano.claims.evidence import Evidence
from mytnano.claims.judge import Judged, judge
from mytnano.claims.ledger import Part, chosen
from mytnano.claims.show import summary

FOLDER = "src/mytnano/claims/evidence"


def judged(project: Project) -> list[Judged]:
    """Every claim, by the evidence of the tree."""
    evidence = Evidence(shipped=project.root / FOLDER)
    return [judge(claim, evidence) for claim in chosen(())]


def overview(project: Project) -> str:
    """How many have which verdict, and how our predictions fared."""
    found = judged(project)
    return f"Of the log's {len(found)} claims: {summary(found)}."


UNFAIR = "†"


def verdicts(project: Project) -> str:
    """A row a claim."""
    evidence = Evidence(shipped=project.root / FOLDER)
    rows = [
        (
            f"[{each.claim.id}](claims/{each.claim.id}.md)",
            each.claim.says + (f" ({each.claim.printed})" if each.claim.printed else ""),
            _verdict(each, evidence),
            _predicted(each),
        )
        for each in judged(project)
    ]
    note = (
        f"{UNFAIR} An arm that decides it, or its baseline, has a learning rate without a "
        "[certificate](lab.md#fair-learning-rates): its page says how much that may cost."
    )
    return paragraphs(table(("claim", "the log says", "verdict", "predicted"), rows), note)


def _verdict(each: Judged, evidence: Evidence) -> str:
    if each.verdict == "not run":
        return each.verdict
    unfair = any(
        finding.state in ("holds", "refuted") and _unfair(part, evidence)
        for part, finding in zip(each.claim.parts, each.findings, strict=True)
    )
    return f"**{each.verdict}**{UNFAIR if unfair else ''}"


def _unfair(part: Part, evidence: Evidence) -> bool:
    """Whether a rate that an arm's verdict rests on is not certified."""
    answer = evidence[part.ablation] if part.ablation else None
    designs = (answer or {}).get("designs") or {}
    return not all(
        designs[name].get("lr_fair", True) for name in ("baseline", part.arm) if name in designs
    )


def _predicted(each: Judged) -> str:
    if each.claim.predict is None:
        return ""
    came = {True: ", rightly", False: ", wrongly", None: ""}[each.as_predicted]
    return f"{each.claim.predict} ({each.claim.p:g}){came}"


def wanting(project: Project) -> str:
    """The claims that have not been decided, with what each needs."""
    rows = []
    for each in judged(project):
        if each.verdict != "not run":
            continue
        missing = [finding.sentence for finding in each.findings if finding.state == "missing"]
        needs = each.claim.needs or "; ".join(dict.fromkeys(missing))
        rows.append((f"[{each.claim.id}](claims/{each.claim.id}.md)", needs))
    return table(("claim", "needs"), rows) if rows else "None: every claim has a verdict."


def sources(project: Project) -> str:
    """Every evidence file with its conditions."""
    evidence = Evidence(shipped=project.root / FOLDER)
    rows = []
    for name in evidence.names():
        found = evidence[name] or {}
        spent = found.get("run_minutes")
        designs = (found.get("designs") or {}).values()
        fair = f"{sum(each['lr_fair'] for each in designs)} of {len(designs)}" if designs else None
        rows.append(
            (f"`{name}`", found.get("question", ""), fair, spent and f"{spent:.0f}",
             conditions_of(environments_of(found)))
        )  # fmt: skip
    if not rows:
        return "No evidence is published in this tree: `mytnano claims run CLAIM` makes it."
    return table(
        ("file", "question", "rates certified", "run minutes", "made on"), rows, ("run minutes",)
    )
