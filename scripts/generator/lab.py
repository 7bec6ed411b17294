"""The region that shows what the lab has answered: every file of results/lab."""

from __future__ import annotations

from generator.tables import Project, bullets, conditions, paragraphs

FOLDER = "results/lab"


def answers(project: Project) -> str:
    """A question, its sentences and its conditions for each answer."""
    parts: list[str] = []
    for path in project.files(f"{FOLDER}/*/answer.json"):
        found = project.read(path)
        said = [f"{arm['sentence']}{_scored(arm)}" for arm in found["arms"]]
        size = f"{found['train_bytes'] // 1024} KiB of training text a run of the baseline"
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
