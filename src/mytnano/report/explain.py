"""One rung in the terminal: its change, the log's claim, what we measured, and the code it runs."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import rich.box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from mytnano import words
from mytnano.designs.families import EXTENDED
from mytnano.designs.groups import WIDER_GROUPS, rate_of
from mytnano.designs.rungs import KNOWN, RUNGS, Rung
from mytnano.errors import UserError
from mytnano.report import compare
from mytnano.report.data import Arm, Results, load_results
from mytnano.run_files import RESULTS

PACKAGE = "mytnano"
CODE_OF_SETTING = {
    "model.layers": "model.transformer.Transformer",
    "model.residual": "model.transformer.Block.sublayer",
    "model.dropout": "model.transformer.Block.sublayer",
    "model.tied": "model.transformer.Transformer",
    "model.init": "model.init.initial_value",
    "optim.lr": "training.schedule.learning_rate",
}
"""What reads a setting, for rungs that name no code of their own."""

RATE = "optim.lr"
HOW = {
    "tuned": "tuned in the group's own run",
    "scaled": "its parent's, scaled by the bytes",
    "inherited": "its parent's",
}
"""How a rung of a group comes by its learning rate, by :func:`mytnano.designs.groups.rate_of`."""


@dataclass(frozen=True)
class Source:
    """A function, class or module as text; ``path`` is relative to the folder of the package."""

    path: str
    first_line: int
    text: str


def explain(rung_id: str, folder: Path | None = None) -> RenderableType:
    """Everything about one rung, to be printed by rich.

    Args:
        rung_id: an id of the ladder.
        folder: an output folder; if it holds results, what was measured is shown as well.

    Raises:
        UserError: there is no such rung, or the folder's results are damaged.
    """
    if group := WIDER_GROUPS.get(rung_id):
        members = ", ".join(group.ids)
        raise UserError(f"'{rung_id}' is a group: give one of its rungs, {members}")
    if rung_id not in KNOWN:
        ids = ", ".join(id for id, rung in RUNGS.items() if rung.group != "depth")
        groups = ", ".join(WIDER_GROUPS)
        raise UserError(
            f"there is no rung '{rung_id}'; choose among {ids}, or among those of the groups "
            f"{groups}, such as activations-relu"
        )
    rung = KNOWN[rung_id]
    results = load_results(folder) if folder and (Path(folder) / RESULTS).exists() else None
    arm = results.arms.get(rung_id) if results else None
    parent = results.parent(arm) if results and arm else None
    parts: list[RenderableType | None] = [
        _head(rung),
        _changes(rung, arm, parent),
        _numbers(rung, arm),
        _pairs(rung, arm, parent),
        _notes(rung, arm, results),
        *_code(rung),
        None if results else _unmeasured(folder),
    ]
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts if part is not None))


def code_of(rung: Rung) -> tuple[str, ...]:
    """Dotted names of what a rung switches on: its own, those of its settings, or its parent's."""
    named = [
        CODE_OF_SETTING[change.setting]
        for change in compare.changes(rung)
        if change.chosen and change.setting in CODE_OF_SETTING
    ]
    if rung.code or named or rung.parent is None:
        return rung.code or tuple(dict.fromkeys(named))
    return code_of(KNOWN[rung.parent])


def source_of(name: str) -> Source:
    """The source of a dotted name relative to the package: ``model.transformer.Block.sublayer``.

    Raises:
        AttributeError: there is nothing of that name.
    """
    parts = name.split(".")
    thing: object = importlib.import_module(PACKAGE)
    for place, part in enumerate(parts):
        if isinstance(thing, ModuleType) and not hasattr(thing, part):
            try:
                thing = importlib.import_module(".".join([PACKAGE, *parts[: place + 1]]))
            except ModuleNotFoundError:
                raise AttributeError(f"{PACKAGE}.{name} does not exist") from None
        else:
            thing = getattr(thing, part)
    lines, first = inspect.getsourcelines(thing)  # type: ignore[arg-type]
    home = Path(importlib.import_module(PACKAGE).__file__ or "").parent.parent
    path = Path(inspect.getfile(thing)).relative_to(home).as_posix()  # type: ignore[arg-type]
    return Source(path, max(first, 1), textwrap.dedent("".join(lines)))


def _head(rung: Rung) -> Text:
    text = Text(words.title(rung.title), style="bold")
    text.append(f"  {rung.id}", style="dim not bold")
    text.append(f"\n{rung.why}", style="not bold")
    if rung.paper:
        text.append(f"\n{rung.paper}", style="dim not bold")
    return text


def _table(*columns: str) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for place, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if place == 0 else "right")
    return table


def _changes(rung: Rung, arm: Arm | None, parent: Arm | None) -> RenderableType:
    if rung.parent is None:
        return Text("This is the start: it changes nothing.", style="dim")
    table = _table(f"change to {rung.parent}", "before", "after", "")
    table.columns[-1].justify = "left"
    extended = rung.id in EXTENDED
    for change in compare.changes(rung, arm, parent):
        if extended and change.setting == RATE:
            continue
        style = "" if change.chosen else "dim"
        note = change.help if change.chosen else "follows, or set to match"
        row = (change.setting, change.before, change.after, note)
        table.add_row(*map(Text, row), style=style)
    if extended:
        known = "not known without its run"
        rates = [_rate(each) or known for each in (parent, arm)]
        table.add_row(*map(Text, (RATE, *rates, HOW[rate_of(rung)])), style="dim")
    return table


def _rate(arm: Arm | None) -> str:
    lr = arm.runs[0].row.get("lr") if arm else None
    return words.setting(lr) if lr else ""


def _numbers(rung: Rung, arm: Arm | None) -> RenderableType | None:
    claim = compare.claim(rung)
    if claim is None and arm is None:
        return None
    table = _table("", *(["the log"] if claim else []), *(["this run"] if arm else []))
    loss, accuracy, bpb = ["loss, nats"], ["accuracy"], ["bits per byte"]
    if claim:
        unit = f"per {claim.unit}" if claim.unit else compare.ABOVE_GUESSING
        loss.append(f"{words.number(claim.loss, 4)} {unit}")
        accuracy.append(words.percent(claim.accuracy))
        known = claim.bits_per_byte is not None
        bpb.append(f"≈ {words.number(claim.bits_per_byte, 2)}" if known else words.MISSING)
    if arm:
        unit = compare.token_unit(arm.runs[0].row.get("tokenizer") or "")
        loss.append(f"{words.number(arm.mean('test_loss'), 4)} per {unit}")
        accuracy.append(words.percent(arm.mean("test_accuracy")))
        bpb.append(words.number(arm.mean()))
    for row in (loss, accuracy, bpb):
        table.add_row(*map(Text, row))
    return table


def _pairs(rung: Rung, arm: Arm | None, parent: Arm | None) -> Text | None:
    paired = compare.pairs(arm, parent) if arm else []
    if not paired:
        return None
    text = Text(f"Difference to {rung.parent} in bits per byte: ")
    for pair in paired:
        text.append(f"seed {pair.seed} ", style="dim")
        text.append(words.signed(pair.difference), style="strike red" if pair.void else "")
        text.append(f" ({pair.void})  " if pair.void else "  ")
    mean = compare.mean_difference(paired)
    if mean is not None and len(paired) > 1:
        text.append(f"mean {words.signed(mean)}  ", style="bold")
    return text.append(compare.caution(len(paired)), style="dim")


def _notes(rung: Rung, arm: Arm | None, results: Results | None) -> Text | None:
    claim, lines = compare.claim(rung), Text()
    if arm and not arm.healthy:
        lines.append(f"Status: {arm.status()}. Its numbers are not to be compared.\n", style="red")
    if results and arm and not results.comparable:
        lines.append("This budget's numbers are not comparable with any others.\n", style="red")
    if results and not arm:
        lines.append("This rung is not among the results of that folder.\n")
    if claim and claim.text:
        lines.append(f"The log: {claim.text}.\n")
    if claim and claim.unit is None:
        lines.append(f"{compare.no_loss(claim)}.\n")
    if claim:
        lines.append("The log's text is WikiText-103, so its level is not that of another text.\n")
    lines.rstrip()
    return lines if lines.plain else None


def _unmeasured(folder: Path | None) -> Text:
    told = "What was measured is not shown: give --out FOLDER, a folder of `mytnano ladder`"
    which = f" with results, which '{Path(folder).name}' is not" if folder else ""
    return Text(f"{told}{which}.", style="dim")


def _code(rung: Rung) -> list[RenderableType]:
    """Each source under its place; lines that read a changed setting are marked."""
    chosen = [change.setting for change in compare.changes(rung) if change.chosen]
    fields = [setting.partition(".")[2] for setting in chosen]
    reads = re.compile(rf"\.({'|'.join(map(re.escape, fields))})\b") if fields else None
    shown: list[RenderableType] = []
    for name in code_of(rung):
        source = source_of(name)
        lines = enumerate(source.text.splitlines(), source.first_line)
        code = Syntax(
            source.text,
            "python",
            theme="ansi_dark",
            background_color="default",
            line_numbers=True,
            start_line=source.first_line,
            highlight_lines={n for n, line in lines if reads and reads.search(line)},
            word_wrap=True,
        )
        shown.append(Group(Text(f"{source.path}:{source.first_line}", style="bold"), code))
    return shown
