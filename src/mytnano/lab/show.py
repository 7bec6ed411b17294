"""What a person sees of an ablation in the terminal: the plan, the state, the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mytnano.lab.answer import Answer
from mytnano.lab.plan import Arm, Plan
from mytnano.lab.spec import INTERACTION
from mytnano.lab.tuning import Rate
from mytnano.terminal import tell
from mytnano.verdicts import words


def print_plan(plan: Plan, console: Console) -> None:
    """What each arm changes, and what is matched."""
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
