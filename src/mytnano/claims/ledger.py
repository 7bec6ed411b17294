"""The claims as data: what the log says, what decides it, and what we predicted."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Literal, Self

import pydantic
import yaml

from mytnano.config import SEMANTICS, Frozen
from mytnano.errors import UserError
from mytnano.stats.verdict import VERDICTS

VERDICT_WORDS = ("holds", "refuted", "partly", "unresolved", "not run")

State = Literal["holds", "refuted", "open", "missing"]


@dataclass(frozen=True)
class Finding:
    """The state of a condition, in a sentence, with the file that it rests on.

    ``open`` was looked at without a decision; ``missing`` has not been run.
    """

    state: State
    sentence: str
    source: str = ""


def stated(holds: bool, sentence: str, source: str = "") -> Finding:
    """A condition that was decided."""
    return Finding("holds" if holds else "refuted", sentence, source)


class Part(Frozen):
    """One condition of a claim: an arm's verdict in an ablation, or a check of the code.

    ``holds`` and ``refutes`` are the verdicts under which it does; any other leaves it open.
    """

    ablation: str = ""
    arm: str = ""
    holds: tuple[str, ...] = ()
    refutes: tuple[str, ...] = ()
    check: str = ""

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.check) == bool(self.ablation and self.arm and self.holds and self.refutes):
            raise ValueError("a part is a check, or an arm of an ablation with its verdicts")
        for word in (*self.holds, *self.refutes):
            if word not in VERDICTS:
                raise ValueError(f"'{word}' is not a verdict")
        return self


class Claim(Frozen):
    """One claim of the log.

    Attributes:
        says: the claim. printed: the log's numbers for it.
        predict, p: the verdict that we expected before the first run, and how sure we were; none
            where what decides it was known before.
        parts: what decides it. needs: why nothing has, for a claim without parts.
        late: a part of what decides it had been measured before it was predicted.
        remark: what should be known beside the verdict.
    """

    id: str
    stage: str
    says: str
    printed: str = ""
    predict: Literal["holds", "refuted", "partly", "unresolved"] | None = None
    late: bool = False
    p: float | None = pydantic.Field(default=None, gt=0, lt=1)
    parts: tuple[Part, ...] = ()
    needs: str = ""
    remark: str = ""

    @property
    def questions(self) -> tuple[str, ...]:
        """Names of the ablations that it needs, each once."""
        return tuple(dict.fromkeys(part.ablation for part in self.parts if part.ablation))


@functools.cache
def ledger() -> dict[str, Claim]:
    """Every claim by id, in the log's order."""
    text = (resources.files("mytnano.claims") / "claims.yaml").read_text(encoding="utf-8")
    return {each["id"]: Claim.model_validate(each) for each in yaml.safe_load(text)}


def chosen(ids: tuple[str, ...]) -> list[Claim]:
    """The claims of these ids, in the log's order; all of them for none.

    Raises:
        UserError: there is no such claim.
    """
    wanted = {id.upper() for id in ids}
    for id in wanted - ledger().keys():
        raise UserError(f"'{id}' is not a claim; there are C1 to C{len(ledger())}")
    return [claim for id, claim in ledger().items() if not wanted or id in wanted]


def question_file(name: str):
    """The YAML file of an ablation of the ledger, inside the package."""
    return resources.files("mytnano.claims") / "questions" / f"{name}.yaml"


@functools.cache
def question_hash(name: str) -> str | None:
    """Twelve hex digits of what an ablation asks and of ``SEMANTICS``; None for a measurement."""
    file = question_file(name)
    if not file.is_file():
        return None
    content = json.dumps(yaml.safe_load(file.read_text(encoding="utf-8")), sort_keys=True)
    return hashlib.sha256(f"{SEMANTICS} {content}".encode()).hexdigest()[:12]


@functools.cache
def planned_minutes(name: str) -> float | None:
    """Core minutes of an ablation if every seed is needed, as estimated on the machine that
    ``minutes.json`` names; None where there is no estimate."""
    file = resources.files("mytnano.claims") / "minutes.json"
    return json.loads(file.read_text(encoding="utf-8"))["minutes"].get(name)
