"""The region that shows what the lab has answered: every file of results/lab."""

from __future__ import annotations

from generator.claims import FOLDER as CLAIMS
from generator.tables import Project, bullets, byte_size, conditions, paragraphs, table
from mytnano.claims.evidence import Evidence
from mytnano.claims.ledger import ledger
from mytnano.designs.baselines import SMALL
from mytnano.lab.match import parameters
from mytnano.lab.spec import builtin_names, read_spec

FOLDER = "results/lab"


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
        (answer["question"] if not place else "", arm["name"], f"**{arm['verdict']}**",
         "" if arm.get("low") is None else f"{arm['low']:+.1f} to {arm['high']:+.1f} %",
         arm.get("pairs"))
        for name in sorted({name for claim in ledger().values() for name in claim.questions})
        if (answer := found[name]) is not None
        for place, arm in enumerate(answer["arms"])
    ]  # fmt: skip
    if not rows:
        return "None is published in this tree: `mytnano claims run CLAIM` makes them."
    header = ("question", "arm", "verdict", "interval, % of the baseline's BPB", "pairs")
    where = (
        "Minus is better. Machine, date and commit of each stand with "
        "[the claims](claims.md#evidence)."
    )
    return paragraphs(table(header, rows, ("pairs",)), where)


def answers(project: Project) -> str:
    """A question, its sentences and its conditions for each answer."""
    parts: list[str] = []
    for path in project.files(f"{FOLDER}/*/answer.json"):
        found = project.read(path)
        said = [f"{arm['sentence']}{_scored(arm)}" for arm in found["arms"]]
        said += [f"Note: {note}" for note in found.get("notes") or []]
        size = f"{byte_size(found['train_bytes'])} of training text a run of the baseline"
        parts += [
            f"**{found['question']}**",
            bullets(said),
            f"`{path}`, plan `{found['plan_hash']}`: corpus `{found['corpus']}`, {size}. "
            f"{conditions(found['environment'])}",
        ]
    if parts:
        return paragraphs(*parts)
    return (
        "No answer is published in this tree: `mytnano ablate QUESTION` makes one, and its "
        f"answer.json goes to `{FOLDER}/QUESTION`."
    )


def _scored(arm: dict) -> str:
    if arm["as_predicted"] is None:
        return ""
    return f" — predicted {arm['prediction']}, {'rightly' if arm['as_predicted'] else 'wrongly'}"
