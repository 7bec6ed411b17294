"""What a person sees of an ablation in the terminal: the plan, the state, the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mytnano.errors import UserError
from mytnano.lab.answer import Answer
from mytnano.lab.curve import FACTORS, at
from mytnano.lab.folder import stored_answer
from mytnano.lab.plan import Arm, Plan
from mytnano.lab.spec import INTERACTION
from mytnano.lab.tuning import Rate
from mytnano.stats.power import POWER, minimum_detectable
from mytnano.terminal import tell
from mytnano.verdicts import words


def print_plan(plan: Plan, text: int, console: Console) -> None:
    """What each arm changes, what is matched, and what the seeds can find.

    Args:
        text: bytes of the training split.
    """
    spec = plan.spec
    if spec.question:
        tell(console, spec.question)
    base = plan.baseline
    tell(
        console,
        f"baseline: {base.parameters:,} parameters, {base.flops:.3g} FLOPs, "
        f"{base.config.train.train_bytes:,} bytes a run; {spec.match} matched; at most "
        f"{spec.seeds} paired seeds; margin {spec.margin:g} %, alpha {spec.alpha:g}; "
        f"plan {plan.hash}",
    )
    level = spec.alpha / len(spec.judged)
    smallest = minimum_detectable(spec.seeds, level, spec.rule.g, spec.fixed)
    tell(
        console,
        f"{spec.seeds} seeds detect a difference of {smallest:.2g} paired standard deviations with "
        f"probability {POWER:g}",
    )
    if note := passes_note(plan, text):
        tell(console, note)
    if spec.fixed:
        tell(console, "fixed: all seeds are run before the first look, and the paired t decides")
    for arm in plan.arms:
        what = "an A/A twin" if arm.twin else ", ".join(arm.factors)
        if len(arm.factors) > 1:
            what = f"joint: {what}"
        more = f" (with {', '.join(arm.others)})" if arm.others and not arm.twin else ""
        tell(console, f"{arm.name}: {what}{more}{_predicted(plan, arm.name)}")
    if plan.interaction:
        what = "what all does beyond the sum of the single effects"
        tell(console, f"{INTERACTION}: {what}{_predicted(plan, INTERACTION)}")
    for name, sized in plan.scales.items():
        base: Arm = sized.baseline
        tell(
            console,
            f"scale {name}: width {base.config.model.width}, {base.parameters:,} parameters, "
            f"{base.flops:.3g} FLOPs, {base.config.train.train_bytes:,} bytes a run",
        )


def passes_note(plan: Plan, text: int) -> str:
    """Which runs read their text more than once, and how often; empty if none does.

    Args:
        text: bytes of the training split.
    """
    arms = {arm.name: arm for arm in plan.every}
    if plan.spec.multiplier:
        arms |= {arm.name: arm for arm in (at(plan.baseline, factor) for factor in FACTORS)}
    for name, sized in plan.scales.items():
        arms |= {f"{arm.name} at scale {name}": arm for arm in sized.every}
    found: dict[str, list[str]] = {}
    for name, arm in arms.items():
        there = min(text, arm.config.data.text_bytes or text)
        times = f"{arm.config.train.train_bytes / there:.2g}"
        if float(times) > 1:
            found.setdefault(times, []).append(name)
    said = [f"{', '.join(names)} {times} times" for times, names in found.items()]
    return f"training text that is read more than once: {'; '.join(said)}" if said else ""


def _predicted(plan: Plan, name: str) -> str:
    expected = plan.spec.prediction.get(name)
    return f"; predicted {expected}" if expected else ""


def print_rates(rates: Mapping[str, Rate], say: Callable[[str], None]) -> None:
    """Each arm's rate, what was tried, and whether it is certified."""
    for name, rate in rates.items():
        tried = ", ".join(
            f"{lr:g}: {f'{bpb:.3f}' if math.isfinite(bpb) else 'diverged'}"
            for lr, bpb in rate.tuned.points
        )
        fair = "fair" if rate.fair else f"not certified: {rate.reason}"
        say(f"{name}: LR {rate.lr:.3g}, {fair} ({tried} validation BPB)")


def print_state(found: Answer, console: Console) -> None:
    """The intervals so far, while seeds are still wanted."""
    verdicts = [*found.verdicts, *([found.interaction] if found.interaction else [])]
    worth = [None if v is found.interaction else found.worth(v) for v in verdicts]
    console.print(words.verdict_table(verdicts, worth))


def print_answer(found: Answer, console: Console) -> None:
    """A sentence an arm, then the tables."""
    for verdict in found.verdicts:
        tell(console, f"{found.sentence(verdict)}{_scored(found, verdict.name)}")
    if found.interaction:
        tell(console, f"{found.interaction_sentence}{_scored(found, INTERACTION)}")
    for verdict in found.verdicts:
        if told := found.equal_time(verdict):
            tell(console, told)
    if found.times and found.times.void:
        tell(
            console,
            f"step times are void: {found.times.busy:.0f} % of this machine was busy with other "
            "work; repeat the command when it is idle",
        )
    for note in found.notes:
        tell(console, f"note: {note}")
    print_state(found, console)
    console.print(_designs(found))


def print_stored(folder: Path, console: Console) -> None:
    """The answer that ``answer.json`` of a folder holds, whole or so far.

    Raises:
        UserError: there is none.
    """
    found = stored_answer(folder)
    if not found:
        raise UserError(f"{folder} holds no answer: `mytnano ablate QUESTION` makes one")
    rows = [*found["arms"], *([found["interaction"]] if "interaction" in found else [])]
    for row in rows:
        tell(console, row["sentence"])
    for said in [row["equal_time"] for row in rows if "equal_time" in row]:
        tell(console, said)
    for note in found.get("notes", []):
        tell(console, f"note: {note}")
    if not found["final"]:
        tell(console, "not final: the command that asked the question continues")
    verdicts = [words.from_json(row) for row in rows]
    console.print(words.verdict_table(verdicts, [None] * len(verdicts)))


def _scored(found: Answer, name: str) -> str:
    right = found.as_predicted(name)
    return "" if right is None else f"; predicted {'rightly' if right else 'otherwise'}"


def _designs(found: Answer) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("design")
    for name in ("BPB", "seeds", "parameters", "FLOPs", "LR", "LR fair"):
        table.add_column(name, justify="right")
    for arm in found.plan.every:
        scores = [run["test_bpb"] for run in found.runs[arm.name].values()]
        whole = bool(scores) and None not in scores
        rate = found.rates[arm.name]
        table.add_row(
            arm.name, f"{sum(scores) / len(scores):.3f}" if whole else "-", str(len(scores)),
            f"{arm.parameters:,}", f"{arm.flops:.3g}", f"{rate.lr:.3g}",
            "yes" if rate.fair else "no",
        )  # fmt: skip
    return table
