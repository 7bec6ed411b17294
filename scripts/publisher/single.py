"""Models, answers of the lab, and evidence for claims."""

from __future__ import annotations

import json
from pathlib import Path

from generator.claims import FOLDER as CLAIMS
from generator.lab import FOLDER as ANSWERS
from generator.models import FOLDER as MODELS
from generator.tables import environments_of

from mytnano.claims.evidence import FILE as EVIDENCE
from mytnano.errors import UserError
from mytnano.files import atomic_write_bytes
from mytnano.ladder.results import CSV as ROWS
from mytnano.run_files import CONFIG, METRICS, RESULT, SAMPLES
from publisher.files import copy, fit_to_publish

MODEL_FILES = (CONFIG, RESULT, METRICS, SAMPLES)
ANSWER_FILES = ("answer.json", ROWS)


def publish_model(folder: Path, root: Path) -> Path:
    """Copy of a finished model's folder what describes it, but for its weights and tokenizer.

    Raises:
        UserError: it is no finished run of `mytnano train`, or was made from a changed tree.
    """
    try:
        result = json.loads((folder / RESULT).read_bytes())
        name = f"{result['rung']}-{result['size']}"
        commit = result["environment"]["commit"]
    except (OSError, ValueError, KeyError):
        raise UserError(f"{folder} holds no finished model: `mytnano train` makes one") from None
    fit_to_publish(folder, commit)
    return copy(MODEL_FILES, folder, root / MODELS / name)


def publish_answer(folder: Path, root: Path) -> Path:
    """Copy of an ablation's folder its answer and its runs, under the folder's name.

    Raises:
        UserError: there is no final answer, or it was made from a changed tree.
    """
    try:
        answer = json.loads((folder / ANSWER_FILES[0]).read_bytes())
        final = answer["final"]
        commits = [each["commit"] for each in environments_of(answer)]
    except (OSError, ValueError, KeyError):
        raise UserError(f"{folder} holds no answer: `mytnano ablate` gives one") from None
    if not final:
        raise UserError(f"the answer in {folder} is not final: continue `mytnano ablate`")
    for commit in commits:
        fit_to_publish(folder, commit)
    name = folder.resolve().name.removeprefix("ablate-")
    return copy(ANSWER_FILES, folder, root / ANSWERS / name)


def publish_claims(folder: Path, root: Path) -> list[Path]:
    """Copy every ``NAME/evidence.json`` into the package, and its runs to the results.

    Raises:
        UserError: there is none, or one was made from a changed tree.
    """
    files = sorted(folder.glob(f"*/{EVIDENCE}"))
    if not files:
        raise UserError(f"{folder} has no evidence: `mytnano claims run` makes it")
    for file in files:
        for each in environments_of(json.loads(file.read_bytes())):
            fit_to_publish(file.parent, each["commit"])
    for file in files:
        atomic_write_bytes(root / CLAIMS / f"{file.parent.name}.json", file.read_bytes())
        copy((ROWS,), file.parent, root / "results/claims" / file.parent.name)
    return files
