"""Reading the file: a run a row, every mistake named by its line."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mytnano.errors import UserError
from mytnano.stats.verdict import UNFIT

HEALTHY = ("", "healthy", "ok", "finished", "completed")
"""Words in a status column that say nothing against a run."""

STOPPED, RUNNING = ("decided", "yes", "true", "1"), ("", "no", "false", "0")
"""Words in a column ``stopped``: the arm has fewer seeds because it was decided; or it has not."""

_SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Run:
    """One row.

    Attributes:
        line: where it stands in the file.
        metric: a positive number; NaN only if ``status`` says why there is none.
        lr, flops: None where the file has no such column.
        status: empty for a healthy run, else one of ``UNFIT``.
        stopped: the file says that the arm got no more seeds, as it was decided.
    """

    line: int
    arm: str
    seed: str
    metric: float
    lr: float | None = None
    flops: float | None = None
    status: str = ""
    stopped: bool = False


@dataclass(frozen=True)
class Table:
    """A file's rows as text, before any is understood."""

    path: Path
    header: list[str]
    rows: list[tuple[int, dict[str, str]]]


def read_table(path: Path) -> Table:
    """The rows of a CSV file; commas, semicolons or tabs separate the cells.

    Raises:
        UserError: the file is missing, unreadable, empty or ragged; the message says where.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; give a CSV file with a run a row") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as a CSV file in UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    lines = _cells(path, text)
    _, header = next(lines, (0, []))
    if not any(header):
        raise UserError(f"{path} is empty; its first line must name the columns")
    if twice := [name for name in dict.fromkeys(header) if header.count(name) > 1]:
        raise UserError(f"{path} has two columns '{twice[0]}'; rename one")
    rows = []
    for line, cells in lines:
        if len(cells) != len(header):
            raise UserError(
                f"line {line} of {path} has {len(cells)} cells, but the first line names "
                f"{len(header)} columns; fix that line"
            )
        rows.append((line, dict(zip(header, cells, strict=True))))
    if not rows:
        raise UserError(f"{path} has no runs below its first line; add a row a run")
    return Table(Path(path), header, rows)


def _cells(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every line that is not blank."""
    first = text.lstrip("\r\n").partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    # Not by splitlines, which breaks at characters that may stand in a name, such as U+2028.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in reader:
            if any(stripped := [cell.strip() for cell in cells]):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise UserError(f"line {reader.line_num} of {path} is not CSV: {error}") from None


def arms_of(table: Table, column: str) -> list[str]:
    """The arms of a file, in the order in which they first stand there.

    Raises:
        UserError: there is no such column, or an arm has no name.
    """
    _require(table, column, "--arm")
    for line, row in table.rows:
        if not row[column]:
            raise UserError(f"line {line} of {table.path} names no {column}; name it or remove it")
    return list(dict.fromkeys(row[column] for _, row in table.rows))


def read_runs(
    table: Table,
    arms: Sequence[str],
    arm_column: str = "arm",
    metric: str = "metric",
    seed_column: str = "seed",
) -> list[Run]:
    """The runs of some arms; those of others are not looked at.

    Raises:
        UserError: a column is missing, a value is not what it should be, or a run stands twice.
    """
    _require(table, seed_column, "--seed")
    _require(table, metric, "--metric")
    wanted = [(line, row) for line, row in table.rows if row[arm_column] in arms]
    runs = [_run(table, line, row, arm_column, metric, seed_column) for line, row in wanted]
    for column in ("lr", "flops"):
        _all_or_none(table, runs, column)
    return runs


def _require(table: Table, column: str, option: str) -> None:
    if column not in table.header:
        names = ", ".join(name or "''" for name in table.header)
        found = f"no column '{column}'; it has {names}"
        raise UserError(f"{table.path} has {found}; name the right one with {option}")


def _run(
    table: Table, line: int, row: dict[str, str], arm_column: str, metric: str, seed_column: str
) -> Run:
    where = f"line {line} of {table.path}"
    seed, status = _seed(row[seed_column]), _status(row.get("status", ""), where)
    if not seed:
        raise UserError(f"{where} has no seed; give the run's seed, as runs are paired by it")
    return Run(
        line,
        row[arm_column],
        seed,
        _metric(row[metric], metric, status, f"{where}: {row[arm_column]}, seed {seed}"),
        _positive(row, "lr", where),
        _positive(row, "flops", where),
        status,
        _stopped(row.get("stopped", ""), where),
    )


def _stopped(text: str, where: str) -> bool:
    word = text.lower()
    if word in STOPPED or word in RUNNING:
        return word in STOPPED
    raise UserError(f"{where}: stopped is '{text}', but it is empty, or '{STOPPED[0]}'; fix it")


def _seed(text: str) -> str:
    """``7`` for ``7``, ``07`` and ``7.0``, which are one seed; other names as they are."""
    if re.fullmatch(r"[+-]?[0-9]+", text):  # which may be too long for a float, or an int
        digits = text.lstrip("+-").lstrip("0") or "0"
        return f"-{digits}" if text[0] == "-" and digits != "0" else digits
    if "_" in text:
        return text
    try:
        number = float(text)
        return str(int(number)) if number.is_integer() else text
    except (ValueError, OverflowError):
        return text


def _status(text: str, where: str) -> str:
    word = text.lower()
    if word in HEALTHY:
        return ""
    if word not in UNFIT:
        known = ", ".join(["healthy", *UNFIT])
        raise UserError(f"{where} has status '{text}', but the statuses are {known}; fix it")
    return word


def _metric(text: str, column: str, status: str, where: str) -> float:
    value = _number(text)
    if status:
        return value if math.isfinite(value) and value > 0 else math.nan
    if not math.isfinite(value):
        raise UserError(
            f"{where}: the {column} is '{text}', which is not a number; fix it, say in a column "
            "'status' that the run diverged, or leave the arm out with --compare"
        )
    if value <= 0:
        raise UserError(
            f"{where}: the {column} is {text}, and differences are in percent, which needs a "
            "positive metric such as a loss; choose one with --metric"
        )
    return value


def _positive(row: dict[str, str], column: str, where: str) -> float | None:
    """A positive number of an optional column; None if its cell is empty."""
    if not row.get(column):
        return None
    value = _number(row[column])
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{where}: {column} is '{row[column]}', not a positive number; fix it")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _all_or_none(table: Table, runs: Iterable[Run], column: str) -> None:
    """An optional column is filled for every run of an arm, or for none."""
    filled: dict[str, bool] = {}
    for run in runs:
        there = getattr(run, column) is not None
        if filled.setdefault(run.arm, there) != there:
            raise UserError(
                f"line {run.line} of {table.path}: some runs of {run.arm} have a value of {column} "
                "and some have none; fill the column or empty it"
            )
