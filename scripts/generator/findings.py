"""What the numbers of a ladder say about the questions that it is asked most."""

from __future__ import annotations

from collections.abc import Callable

from generator.ladder import COMMANDS, FINAL, FITS, about, absent, published
from generator.tables import Project, bullets, paragraphs, table
from mytnano import words
from mytnano.report import compare
from mytnano.report.data import Arm, Results
from mytnano.report.figures import BASELINE_NAMES


def findings(project: Project) -> str:
    """What both budgets say: a row a question, a column a budget."""
    found = {name: results for name in COMMANDS if (results := published(project, name))}
    if not found:
        return paragraphs(*map(absent, COMMANDS))
    rows = [(question, *map(answer, found.values())) for question, answer in QUESTIONS.items()]
    rows = [row for row in rows if any(row[1:])]
    notes = [_equal_cost_rungs(results) for results in found.values()]
    if any(
        compare.knows_other_text(best) for results in found.values() if (best := _best(results))
    ):
        notes.append(f"Of `mytnano-cl100k`, {compare.OTHER_TEXT}.")
    return paragraphs(
        table(("", *(f"budget `{name}`" for name in found)), rows),
        " ".join(["Scores are BPB of the test text.", *dict.fromkeys(filter(None, notes))]),
        *(about(results) for results in found.values()),
    )


def standing(project: Project, budget: str) -> str:
    """How the final design stands against what needs no training."""
    results = published(project, budget)
    final = _final(results) if results else None
    if results is None or final is None:
        return absent(budget)
    lines = [_size(final), *(_standing(results, final, fit) for fit in ("budget", "full"))]
    for arm in results.group("long"):  # has seen the whole split, and that several times
        if arm.healthy:
            lines += [_size(arm), _standing(results, arm, "full")]
    return paragraphs(bullets(line for line in lines if line), about(results))


def _size(arm: Arm) -> str:
    parameters = f"{(arm.mean('params') or 0) / 1e6:.1f} M parameters"
    text = f"{(arm.mean('train_bytes') or 0) / 2**20:.3g} MiB of text, repeats counted"
    return f"`{arm.rung.id}`, {parameters}, {text}: {words.number(arm.mean())} BPB, {_seeds(arm)}."


def _final(results: Results) -> Arm | None:
    final = results.arms.get(FINAL)
    return final if final and final.healthy else None


def _best(results: Results) -> Arm | None:
    return compare.lowest(results.group("core"))


def _seeds(arm: Arm) -> str:
    return f"{len(arm.runs)} seeds" if len(arm.runs) > 1 else "one seed"


def _scored(arm: Arm) -> str:
    score = words.number(arm.mean()) if arm.healthy else arm.status()
    return f"`{arm.rung.id}` {score} ({_seeds(arm)})"


def _text(results: Results) -> str:
    size = results.budget.get("train_bytes")
    return f"{size / 2**20:g} MiB" if size else ""


def _lowest(results: Results) -> str:
    """The arm with the lowest mean, and what it costs more than the final design."""
    best, final = _best(results), _final(results)
    if best is None:
        return "none: no core rung has only healthy seeds"
    if final is None or best is final:
        return _scored(best)
    flops, params = compare.cost_beside(best, final)
    return (
        f"{_scored(best)}, {flops:.1f} x the FLOPs and {params:.1f} x the parameters of `{FINAL}`"
    )


def _near(results: Results) -> list[Arm]:
    final = results.arms.get(FINAL)
    return compare.of_equal_cost(results.group("core"), final) if final else []


def _lowest_at_equal_cost(results: Results) -> str:
    lowest = compare.lowest(_near(results))
    return _scored(lowest) if lowest else ""


def _equal_cost_rungs(results: Results) -> str:
    near = _near(results)
    named = words.listed([f"`{arm.rung.id}`" for arm in near]) if near else ""
    share = f"{100 * compare.NEAR_FLOPS:g} %"
    return f"As many FLOPs means within {share} of them: {named}." if named else ""


def _standing(results: Results, arm: Arm, fit: str) -> str:
    """How far an arm is from the baselines that a good model must beat; empty if unknown."""
    score = arm.mean()
    parts = []
    for name in ("bigram", "zstd", "xz", "kneser-ney-5"):
        bpb = results.baseline(name, fit)
        if score is not None and bpb is not None:
            side = "worse" if score > bpb else "better"
            named = f"{BASELINE_NAMES[name]} {words.number(bpb)}"
            parts.append(f"{words.number(abs(score - bpb))} {side} ({named})")
    return (
        f"`{arm.rung.id}` against baselines {FITS[fit]}, in BPB: {', '.join(parts)}."
        if parts
        else ""
    )


def _long(results: Results) -> str:
    said = []
    for arm in results.group("long"):
        size = (arm.mean("train_bytes") or 0) / 2**20
        said.append(f"{_scored(arm)}, {size:.3g} MiB, repeats counted")
    return "; ".join(said)


def _learned_bigram(results: Results) -> str:
    """Seed by seed: each seed reads other pairs of characters."""
    return ", ".join(
        f"{words.number(each.learned)} against {words.number(each.counted)} (seed {each.seed})"
        for each in compare.counted_bigrams(results.baselines, results.arms.get("bigram"))
    )


def _unhealthy(results: Results) -> str:
    ran = [arm for arm in results.arms.values() if arm.group != "depth"]
    arms = [f"`{arm.rung.id}` ({arm.status()})" for arm in ran if not arm.healthy]
    return words.listed(arms) if arms else f"none of {len(ran)}"


QUESTIONS: dict[str, Callable[[Results], str]] = {
    "training text a run": _text,
    "final design": lambda results: _scored(arm) if (arm := _final(results)) else "",
    "lowest core rung": _lowest,
    f"lowest with as many FLOPs as `{FINAL}`": _lowest_at_equal_cost,
    "larger and for longer": _long,
    "learned bigram, and the one counted from the same characters": _learned_bigram,
    "not healthy, so not compared (depth figure aside)": _unhealthy,
}
"""Row of the table -> its cell of a budget; a row that no budget has anything for is left out."""
