"""What is asked: a baseline, arms that each change one thing, and how sure one wants to be.

Three lines are a question::

    baseline: small
    arms:
      swiglu: {ffn: swiglu, ffn_width: 171}

An arm is a set of settings by name (``ffn``, or in full ``model.ffn``) that replace the baseline's.
``ffn``, ``mixer``, ``norm`` and ``positions`` may name a module of one's own, ``./mine.py:MyFFN``.
Everything else has a default.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import pydantic
import yaml

from mytnano.config import Frozen
from mytnano.errors import UserError, unknown
from mytnano.stats.verdict import VERDICTS, Rule
from mytnano.text.readers import existing_path

BASELINE = "baseline"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]{0,47}")
JOINT = "joint"
"""Key of an arm that changes several design choices at once, on purpose."""
ALL, WITHOUT, INTERACTION = "all", "without-", "interaction"
"""Names that ``combine`` makes: all arms together, all but one, and what goes beyond the sum."""


def _field(help: str, default: Any, **constraints: Any) -> Any:
    return pydantic.Field(description=help, default=default, **constraints)


class Spec(Frozen):
    """A question to the lab."""

    question: str = _field("what one wants to know, in words", "")
    baseline: str | dict[str, Any] = _field(
        "the design that the arms are held against: 'small', a rung such as 'pre-norm', or "
        "{from: small, SETTING: VALUE, ...}",
        "small",
    )
    arms: dict[str, dict[str, Any]] = _field(
        "name -> settings that differ from the baseline's; 'joint: true' among them allows more "
        "than one design choice",
        {},
    )
    prediction: dict[str, str] = _field("arm -> the verdict that one expects", {})
    match: Literal["flops", "parameters", "bytes"] = _field(
        "what is equal between arms: training FLOPs (by the number of steps), parameters (by the "
        "feed-forward width) at equal bytes, or only the bytes",
        "flops",
    )
    train_bytes: int = _field("training text of a run of the baseline", 2**18, ge=4096)
    seeds: int = _field("most paired seeds", 24, ge=3, le=10_000)
    tuning_seeds: int = _field("seeds of each learning rate that is tried", 2, ge=1, le=100)
    margin: float = _field("percent of the baseline's BPB that would not matter", 0.3)
    alpha: float = _field("highest chance of a false verdict", 0.01)
    fixed: bool = _field(
        "run all seeds before the first look, and decide by the paired t-test with the sign-flip "
        "test beside it, instead of looking after every few seeds",
        False,
    )
    combine: Literal["none", "add-one-in", "leave-one-out", "interaction"] = _field(
        "arms that are one choice each, also put together: 'add-one-in' adds the arm 'all'; "
        "'leave-one-out' holds all but one against all; 'interaction' also judges what 'all' does "
        "beyond the sum of the single effects",
        "none",
    )
    multiplier: bool | Literal["tuned"] = _field(
        "give effects as compute too: the baseline is also trained at 1/4, 1/2, 2 and 4 times its "
        "text, at rates carried over by the written rule, or 'tuned': each at its own",
        False,
    )
    scales: list[float | dict[str, Any]] = _field(
        "two or more other sizes of the baseline, at which the same arms are held against it: "
        "times its compute, such as 0.25, or settings that replace its own, such as {width: 32}",
        [],
    )
    corpus: str = _field("'sotu', a file, a folder, a .jsonl, a .parquet, or 'hf:NAME'", "sotu")
    split: str = _field("'documents' or 'tail:FRACTION'", "documents")
    test_bytes: int = _field("test text that is scored; 0 is all of it", 2**18, ge=0)
    validation_bytes: int = _field("validation text for the learning rates; 0 is all", 2**17, ge=0)

    @pydantic.model_validator(mode="after")
    def _sensible(self) -> Self:
        if not self.arms:
            raise ValueError("there are no arms: name at least one change")
        for name in self.arms:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"'{name[:40]}' cannot be the name of an arm, which names folders: use up to "
                    "48 letters, digits, '-', '_', '+' and '.'"
                )
        if BASELINE in self.arms:
            raise ValueError("no arm may be called 'baseline'")
        if self.combine != "none":
            if len(self.arms) < 2:
                raise ValueError("combine needs at least two arms")
            if reserved := sorted({ALL, INTERACTION} & set(self.arms)):
                raise ValueError(f"combine makes an arm '{reserved[0]}' itself: rename yours")
        if len(self.scales) == 1:
            raise ValueError("scales: a trend needs at least two sizes beside the question's own")
        for scale in self.scales:
            if not isinstance(scale, dict) and (not 0 < scale < math.inf or scale == 1):
                raise ValueError(
                    f"scales: {scale:g} is not another size: give times the baseline's compute, "
                    "such as 0.25 or 4"
                )
        for name, expected in self.prediction.items():
            if name not in self.judged:
                raise ValueError(f"the prediction names '{name}', which is not an arm")
            if expected not in VERDICTS:
                raise ValueError(str(unknown(expected, "a verdict", VERDICTS)))
        return self

    @property
    def rule(self) -> Rule:
        """How it is decided; raises UserError if margin or alpha are out of range."""
        return Rule(alpha=self.alpha, margin=self.margin, fixed=self.fixed)

    @property
    def judged(self) -> tuple[str, ...]:
        """What gets a verdict, and so counts among Holm's: the arms, and what ``combine`` adds."""
        arms = tuple(self.arms)
        return {
            "none": arms,
            "add-one-in": (*arms, ALL),
            "leave-one-out": tuple(WITHOUT + name for name in arms),
            "interaction": (*arms, ALL, INTERACTION),
        }[self.combine]


def builtin_names() -> list[str]:
    """Names of the questions that come with the package."""
    folder = resources.files("mytnano.lab") / "ablations"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir())


def read_spec(source: str | Path | Mapping[str, Any] | Spec, /, **overrides: Any) -> Spec:
    """A question from a YAML file, a built-in's name, or values.

    Args:
        overrides: fields that replace the source's.

    Raises:
        UserError: one sentence about the first mistake.
    """
    if isinstance(source, Spec):
        content: dict[str, Any] = source.model_dump()
        name = "the question"
    elif isinstance(source, Mapping):
        content, name = dict(source), "the question"
    else:
        content, name = _load(source), str(source)
    content |= overrides
    for key in content:
        if key not in Spec.model_fields:
            near = difflib.get_close_matches(str(key), Spec.model_fields, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(Spec.model_fields)}"
            raise UserError(f"{name}: unknown field '{key}'; {hint}")
    try:
        spec = Spec.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        hidden = ("str", "dict[str,any]", "[key]")
        place = ".".join(str(part) for part in first["loc"] if part not in hidden)
        reason = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{name}: {f'{place}: ' if place else ''}{reason}") from None
    _ = spec.rule
    return spec


def overrides(words: Sequence[str]) -> dict[str, Any]:
    """``["seeds=40"]`` -> ``{"seeds": 40}``; values as in YAML.

    Raises:
        UserError: a word is not NAME=VALUE.
    """
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals):
            raise UserError(f"'{word}' is not NAME=VALUE, such as seeds=40")
        try:
            found[name] = yaml.load(text, Loader)
        except BAD_YAML:
            raise UserError(f"'{word[:60]}' has no value that YAML can read") from None
    return found


def _load(source: str | Path) -> dict[str, Any]:
    path = existing_path(str(source))
    if path and path.is_file():
        text, name = _text(path), str(path)
    elif str(source) in builtin_names():
        file = resources.files("mytnano.lab") / "ablations" / f"{source}.yaml"
        text, name = file.read_text(encoding="utf-8"), str(source)
    else:
        raise UserError(
            f"'{str(source)[:60]}' is neither a file nor a built-in question; built in are "
            f"{', '.join(builtin_names())}"
        )
    try:
        content = yaml.load(text, Loader)
    except BAD_YAML as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        what = f": {error.problem}" if isinstance(error, DuplicateKey) else ""
        raise UserError(f"{name} is not YAML{line}{what}: fix it there") from None
    if not isinstance(content, dict):
        raise UserError(f"{name} must be fields with values, such as 'arms: ...'")
    return content


class DuplicateKey(yaml.MarkedYAMLError):
    """A key that stands twice, of which YAML would drop one without a word."""


class Loader(yaml.SafeLoader):
    """Plain values only, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise DuplicateKey(problem=f"'{key.value}' twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


BAD_YAML = (yaml.YAMLError, ValueError, RecursionError, TypeError)
"""What reading YAML can raise: impossible dates and huge numbers are errors of Python's own."""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; give a YAML file") from None
