"""What the numbers of a ladder say about the questions that it is asked most, in sentences."""

from __future__ import annotations

from generator.ladder import FITS, about, absent, published
from generator.tables import Project, bullets, paragraphs
from mytnano import words
from mytnano.report import compare
from mytnano.report.data import Arm, Results
from mytnano.report.figures import BASELINE_NAMES

FINAL = "mytnano"
"""The rung that the log ends with, whose vocabulary is learned from the ladder's own text."""


def findings(project: Project, budget: str) -> str:
    """What the numbers say about the questions that the ladder is asked most."""
    results = published(project, budget)
    if results is None:
        return absent(budget)
    best, final = compare.lowest(results.group("core")), results.arms.get(FINAL)
    final = final if final and final.healthy else None
    lines = [
        *_of(results, final),
        _lowest(best, final),
        *([] if best is final else _of(results, best)[1:]),
        *(_long(results, arm) for arm in results.group("long")),
        _learned_bigram(results),
        _equal_flops(results),
        _unhealthy(results),
    ]
    return paragraphs(bullets(line for line in lines if line), about(results))


def standing(project: Project, budget: str) -> str:
    """How the final design stands against what needs no training."""
    results = published(project, budget)
    final = results.arms.get(FINAL) if results else None
    if results is None or final is None or not final.healthy:
        return absent(budget)
    return paragraphs(bullets(_of(results, final)), about(results))


def _of(results: Results, arm: Arm | None) -> list[str]:
    """An arm's score, and how it stands against what needs no training."""
    if arm is None:
        return []
    parameters = f"{(arm.mean('params') or 0) / 1e6:.1f} M parameters"
    standing = [_standing(results, arm, fit) for fit in ("budget", "full")]
    return [f"`{arm.rung.id}`, {parameters}: {_scored(arm)}.", *standing]


def _lowest(best: Arm | None, final: Arm | None) -> str:
    """The arm with the lowest mean, and what it costs more than the final design."""
    if best is None:
        return "No core rung has only healthy seeds, so none is called the lowest."
    said = f"Lowest mean of the healthy core rungs: `{best.rung.id}`, {_scored(best)}"
    if final is None or best is final:
        return f"{said}."
    flops, params = compare.cost_beside(best, final)
    text = (
        f"{said}, with {flops:.1f} times the training FLOPs of `{FINAL}` and {params:.1f} times "
        "its parameters"
    )
    return f"{text}; {compare.OTHER_TEXT}." if compare.knows_other_text(best) else f"{text}."


def _scored(arm: Arm) -> str:
    seeds = f"{len(arm.runs)} seeds" if len(arm.runs) > 1 else "one seed"
    return f"{words.number(arm.mean())} BPB, {seeds}"


def _standing(results: Results, arm: Arm | None, fit: str) -> str:
    """How far an arm is from the baselines that a good model must beat; empty if unknown."""
    score = arm.mean() if arm else None
    parts = []
    for name in ("bigram", "zstd", "xz", "kneser-ney-5"):
        bpb = results.baseline(name, fit)
        if score is not None and bpb is not None:
            side = "worse" if score > bpb else "better"
            named = f"{BASELINE_NAMES[name]} {words.number(bpb)}"
            parts.append(f"{words.number(abs(score - bpb))} {side} ({named})")
    if not parts or arm is None:
        return ""
    return f"`{arm.rung.id}` against baselines {FITS[fit]}, in BPB: {', '.join(parts)}."


def _long(results: Results, arm: Arm) -> str:
    size = (arm.mean("train_bytes") or 0) / 2**20
    scored = _scored(arm) if arm.healthy else arm.status()
    text = f"`{arm.rung.id}`, trained on {size:.3g} MiB, repeats counted: {scored}."
    return f"{text} {_standing(results, arm, 'full')}" if arm.healthy else text


def _learned_bigram(results: Results) -> str:
    """Seed by seed: each seed reads other pairs of characters."""
    arm = results.arms.get("bigram")
    found = compare.counted_bigrams(results.baselines, arm)
    if arm is None or not found:
        return ""
    pairs = ", ".join(
        f"{words.number(each.learned)} against {words.number(each.counted)} "
        f"({words.signed(each.learned - each.counted)}, seed {each.seed})"
        for each in found
    )
    text = f"The learned bigram against the one counted from the same pairs of characters: {pairs}."
    if len(found) < len(arm.runs):
        left = words.listed(
            [str(s.seed) for s in arm.runs if s.seed not in {f.seed for f in found}]
        )
        text += f" The pairs of seed {left} were not counted."
    return text


def _equal_flops(results: Results) -> str:
    final = results.arms.get(FINAL)
    near = compare.of_equal_cost(results.group("core"), final) if final else []
    lowest = compare.lowest(near)
    if lowest is None:
        return ""
    ids = words.listed([f"`{arm.rung.id}`" for arm in near])
    share = f"{100 * compare.NEAR_FLOPS:g} %"
    return (
        f"Among the core rungs within {share} of the training FLOPs of `{FINAL}` ({ids}), the "
        f"lowest mean is that of `{lowest.rung.id}`."
    )


def _unhealthy(results: Results) -> str:
    arms = [arm for arm in results.arms.values() if not arm.healthy and arm.group != "depth"]
    if not arms:
        ran = [arm for arm in results.arms.values() if arm.group != "depth"]
        return f"All {len(ran)} rungs that were run are healthy" + (
            ", those of the depth figure aside." if len(ran) < len(results.arms) else "."
        )
    named = words.listed([f"`{arm.rung.id}` ({arm.status()})" for arm in arms])
    return f"Not healthy, so shown but not compared: {named}."
