"""What a person sees of an ablation in the terminal: the plan, the state, the answer."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mytnano.lab.answer import Answer
from mytnano.lab.plan import Plan
from mytnano.verdicts import words


def print_plan(plan: Plan, console: Console) -> None:
    """What each arm changes, and what is matched."""
    spec = plan.spec
    if spec.question:
        _line(console, spec.question)
    base = plan.baseline
    _line(
        console,
        f"baseline: {base.parameters:,} parameters, {base.flops:.3g} FLOPs, "
        f"{base.config.train.train_bytes:,} bytes a run; {spec.match} matched; at most "
        f"{spec.seeds} paired seeds; margin {spec.margin:g} %, alpha {spec.alpha:g}; "
        f"plan {plan.hash}",
    )
    for arm in plan.arms:
        what = "an A/A twin" if arm.twin else ", ".join(arm.factors)
        more = f" (with {', '.join(arm.others)})" if arm.others and not arm.twin else ""
        expected = spec.prediction.get(arm.name)
        _line(console, f"{arm.name}: {what}{more}{f'; predicted {expected}' * bool(expected)}")


def print_state(found: Answer, console: Console) -> None:
    """The intervals so far, while seeds are still wanted."""
    console.print(words.verdict_table(list(found.verdicts), [None] * len(found.verdicts)))


def print_answer(found: Answer, console: Console) -> None:
    """A sentence an arm, then the tables."""
    for verdict in found.verdicts:
        right = found.as_predicted(verdict.name)
        told = "" if right is None else f"; predicted {'rightly' if right else 'otherwise'}"
        _line(console, f"{found.sentence(verdict)}{told}")
    print_state(found, console)
    console.print(_designs(found))


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


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
