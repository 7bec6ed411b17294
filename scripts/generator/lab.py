"""The region that shows what the lab has answered: every file of results/lab."""

from __future__ import annotations

from typing import Any

from generator.claims import FOLDER as CLAIMS
from generator.tables import (
    Project,
    bullets,
    byte_size,
    conditions_of,
    environments_of,
    paragraphs,
    table,
)
from mytnano import words
from mytnano.claims.evidence import Evidence
from mytnano.claims.ledger import ledger
from mytnano.designs.baselines import SMALL
from mytnano.lab.match import parameters
from mytnano.lab.spec import builtin_names, read_spec
from mytnano.stats.verdict import UNFIT
from mytnano.verdicts.words import difference, from_json, interval, p_value

FOLDER = "results/lab"

EXAMPLE = "swiglu"
"""The question whose answer stands on the first page."""

ABSENT = (
    "No answer is published in this tree: `mytnano ablate QUESTION` makes one, and "
    "`scripts/publish.py answer FOLDER` copies it."
)


def small(project: Project) -> str:
    """What the default baseline is, from its config."""
    model, data = SMALL.model, SMALL.data
    vocabulary = int(data.tokenizer.removeprefix("bpe:"))
    size = parameters(SMALL.but(model={"vocab_size": vocabulary, "context": data.window_bytes}))
    return (
        f"{model.layers} {model.norm_place}-{model.norm} blocks of width {model.width}, "
        f"{model.heads} heads, {model.positions}, {model.ffn} of width {model.ffn_width}, "
        f"`init: {model.init}`; {data.tokenizer}, windows of {data.window_bytes} bytes; "
        f"{SMALL.optim.schedule} with {SMALL.optim.warmup:.0%} warmup; {size:,} parameters. It is "
        "not the size `small` of `mytnano train`."
    )


def questions(project: Project) -> str:
    """The questions that come with the package."""
    asked = {name: read_spec(name) for name in builtin_names()}
    rows = [
        (f"`{name}`", spec.question, ", ".join(f"`{arm}`" for arm in spec.arms))
        for name, spec in asked.items()
    ]
    return table(("name", "question", "arms"), rows)


def evidence(project: Project) -> str:
    """The verdict on every arm of every ablation of the claims."""
    found = Evidence(shipped=project.root / CLAIMS)
    rows = [
        (answer["question"] if not place else "", f"`{arm['name']}`", f"**{arm['verdict']}**",
         *_numbers(arm)[:3])
        for name in sorted({name for claim in ledger().values() for name in claim.questions})
        if (answer := found[name]) is not None
        for place, arm in enumerate(answer["arms"])
    ]  # fmt: skip
    if not rows:
        return "None is published in this tree: `mytnano claims run CLAIM` makes them."
    header = ("question", "arm", "verdict", *NUMBERS[:3])
    where = (
        "Percent of the baseline's BPB, minus is better. Machine, date and commit of each stand "
        "with [the claims](claims.md#evidence)."
    )
    return paragraphs(table(header, rows, NUMBERS[:3]), where)


def answers(project: Project) -> str:
    """A question, a row for each arm, and the conditions of each answer."""
    parts: list[str] = []
    for path, found in _published(project):
        rows = [
            (
                f"`{arm['name']}`",
                f"**{arm['verdict']}**",
                *_numbers(arm),
                words.significant(arm.get("detectable_percent"), 2),
                ", ".join(f"`{each}`" for each in arm.get("others") or []),
                _scored(arm),
            )
            for arm in found["arms"]
        ]
        header = (
            "arm", "verdict", *NUMBERS, "would find %", "changed with it", "predicted",
        )  # fmt: skip
        size = f"{byte_size(found['train_bytes'])} of training text a run of the baseline"
        parts += [
            f"**{found['question']}**",
            table(header, rows, (*NUMBERS, "would find %")),
            _over_sizes(found["arms"]),
            bullets(found.get("notes") or []),
            f"`{path}`, plan `{found['plan_hash']}`: corpus `{found['corpus']}`, {size}, "
            f"{found['match']} matched. {_rates(found)} {conditions_of(environments_of(found))}",
        ]
    if not parts:
        return ABSENT
    told = (
        "Minus is a lower BPB, so better. An unresolved arm could have missed a difference smaller "
        "than what its pairs would find with probability 0.8."
    )
    return paragraphs(told, *parts)


def _over_sizes(arms: list[dict[str, Any]]) -> str:
    """The effect of each arm at every size, and what a doubling of compute does to it."""
    moved = {arm["name"]: arm["trend"] for arm in arms if arm.get("trend")}
    if not moved:
        return ""
    compute = next(iter(moved.values()))["compute"]
    sizes = [f"% at {words.quantity(flops)} FLOPs" for flops in compute]
    rows = [
        (
            f"`{name}`",
            *(f"{round(effect, 1) + 0.0:+.1f}" for effect in trend["effects"]),
            f"{trend['slope']:+.2g}",
            f"[{trend['low']:+.2g}, {trend['high']:+.2g}]",
            _direction(trend),
        )
        for name, trend in moved.items()
    ]
    header = ("arm", *sizes, "a doubling", "interval", "the effect")
    told = (
        "Over sizes, the baseline's compute heading each: the mean difference, and by how much it "
        "moves with each doubling of compute."
    )
    return paragraphs(told, table(header, rows, header[1:-1]))


def _direction(trend: dict[str, Any]) -> str:
    """What a trend says of an effect, in a word or two."""
    if not trend["resolved"]:
        return "no trend is resolved"
    if trend["reverses"]:
        return "reverses"
    return {True: "shrinks", False: "grows", None: "moves"}[trend["shrinks"]]


def decided(project: Project) -> str:
    """The arms with a verdict, a row each, and how many others have none.

    Of a question without any all arms are shown.
    """
    # The plainest question comes first.
    published = sorted(_published(project), key=lambda each: f"/{EXAMPLE}/" not in each[0])
    answers = [found for _, found in published]
    if not answers:
        return ABSENT
    rows: list[tuple[object, ...]] = []
    for found in answers:
        said = [arm for arm in found["arms"] if arm["verdict"] != "unresolved"]
        for place, arm in enumerate(said or found["arms"]):
            question = "" if place else found["question"]
            verdict = f"**{arm['verdict']}**" if said else arm["verdict"]
            rows.append((question, f"`{arm['name']}`", verdict, *_numbers(arm)[:3], _scored(arm)))
    unresolved = sum(len(found["arms"]) for found in answers) - len(rows)
    header = ("question", "arm", "verdict", *NUMBERS[:3], "predicted")
    told = (
        "Differences are in percent of the baseline's BPB, minus is better. Arms of these "
        f"questions that are unresolved and not shown: {unresolved}."
    )
    where = conditions_of(each for found in answers for each in environments_of(found))
    return paragraphs(table(header, rows, NUMBERS[:3]), f"{told} {where}")


def example(project: Project) -> str:
    """The sentence that one question ended with."""
    found = project.read(f"{FOLDER}/{EXAMPLE}/answer.json")
    if not found:
        return ABSENT
    said = "\n".join(f"> {arm['sentence']}" for arm in found["arms"])
    return paragraphs(said, conditions_of(environments_of(found)))


def _published(project: Project) -> list[tuple[str, dict]]:
    return [(path, project.read(path)) for path in project.files(f"{FOLDER}/*/answer.json")]


NUMBERS = ("difference %", "interval %", "pairs", "p")


def _numbers(arm: dict) -> tuple[str, str, object, str]:
    """The cells of :data:`NUMBERS`; those that an unfit arm has not are empty."""
    verdict = from_json(arm)
    if verdict.difference is None or verdict.verdict in UNFIT:
        return "", "", arm.get("pairs"), ""
    return difference(verdict), interval(verdict), verdict.pairs, p_value(verdict)


def _rates(found: dict) -> str:
    """Whether the learning rates of all designs are certified."""
    unfair = [name for name, design in found["designs"].items() if not design["lr_fair"]]
    return f"Rates not certified: {', '.join(unfair)}." if unfair else "All rates are certified."


def _scored(arm: dict) -> str:
    if arm.get("as_predicted") is None:
        return ""
    return f"{arm['prediction']}, {'rightly' if arm['as_predicted'] else 'wrongly'}"
