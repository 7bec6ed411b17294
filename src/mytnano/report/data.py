"""What a ladder left in its folder, read for the report; nothing outside the folder is opened.

``results.json`` must be there. Everything else may be missing: the report then lacks the part that
needs it. Numbers that are not finite count as missing.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mytnano.designs.rungs import KNOWN, Rung
from mytnano.errors import UserError
from mytnano.run_files import (
    ATTENTION,
    BASELINES,
    CONFIG,
    DECODE,
    GROUP_RATES,
    MADE,
    METRICS,
    RESULT,
    RESULTS,
    RUNS,
    origin,
)

HEALTHY = "healthy"


@dataclass(frozen=True)
class Run:
    """One run: its row of ``results.json`` and the files of its folder (empty if unreadable).

    ``made`` has the conditions of this run: hardware, versions, commit, date.
    """

    row: dict[str, Any]
    result: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return self.row["seed"]

    @property
    def status(self) -> str:
        return self.row.get("status") or "unknown"

    @property
    def healthy(self) -> bool:
        return self.status == HEALTHY

    @property
    def bpb(self) -> float | None:
        return self.row.get("test_bpb")

    def curve(self) -> list[tuple[float, float]]:
        """(bytes of training text, validation BPB) of every point that was validated."""
        points = ((p.get("bytes"), p.get("validation_bpb")) for p in self.metrics)
        return [(x, y) for x, y in points if x is not None and y is not None]


@dataclass(frozen=True)
class Arm:
    """All runs of one rung, by seed."""

    rung: Rung
    runs: list[Run]

    @property
    def healthy(self) -> bool:
        return all(run.healthy for run in self.runs)

    @property
    def group(self) -> str:
        return self.runs[0].row.get("group") or self.rung.group

    def mean(self, key: str = "test_bpb") -> float | None:
        """Mean over the seeds; None unless every seed has the value: no survivors' means."""
        values = [run.row.get(key) for run in self.runs]
        return None if None in values else sum(values) / len(values)

    def status(self) -> str:
        """``healthy``, ``collapsed``, or for mixed seeds ``2 of 5 collapsed``."""
        counts = Counter(run.status for run in self.runs)
        if len(counts) == 1:
            return next(iter(counts))
        total = len(self.runs)
        return ", ".join(f"{n} of {total} {name}" for name, n in counts.items() if name != HEALTHY)


@dataclass(frozen=True)
class Results:
    """Everything that the report is made of.

    ``environment`` has the conditions of most runs outside of the depth figure;
    ``without_folder`` counts runs without files.
    """

    budget: dict[str, Any]
    corpus: dict[str, Any]
    environment: dict[str, Any]
    comparable: bool
    arms: dict[str, Arm]
    baselines: dict[str, Any]
    attention: dict[str, Any] | None
    group_rates: dict[str, Any] = field(default_factory=dict)
    decode: dict[str, Any] | None = None
    without_folder: int = 0

    def group(self, *names: str) -> list[Arm]:
        """The arms of some groups, in ladder order."""
        return [arm for arm in self.arms.values() if arm.group in names]

    def parent(self, arm: Arm) -> Arm | None:
        """The arm that this one starts from, if it was run."""
        return self.arms.get(arm.rung.parent or "")

    def baseline(self, name: str, fitted: str = "budget") -> float | None:
        """BPB of a closed-form baseline, fitted on the runs' bytes or on the ``full`` split."""
        rows = self.baselines.get(fitted) or []
        return next((row.get("bpb") for row in rows if row["name"] == name), None)

    def exceptions(self, arm: Arm) -> list[tuple[str, dict[str, Any]]]:
        """Which of the arm's runs were made in other conditions than most, and in which.

        One entry without words where all of the arm's runs share them, else one a run: ``seed 2``.
        """
        usual = origin(self.environment)
        apart = [run for run in arm.runs if origin(run.made) != usual]
        if len(apart) == len(arm.runs) and len({origin(run.made) for run in apart}) == 1:
            return [("", apart[0].made)]
        return [(f"seed {run.seed}", run.made) for run in apart]


def load_results(folder: Path) -> Results:
    """Read an output folder.

    Raises:
        UserError: there are no results in it, or they are damaged.
    """
    folder = Path(folder)
    try:
        results = _read_json(folder / RESULTS)
        rows = sorted(results["runs"], key=lambda row: (_place(row["rung"]), row["seed"]))
    except FileNotFoundError:
        raise UserError(f"{folder} has no {RESULTS}; run `mytnano ladder --out {folder}`") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{folder / RESULTS} is damaged; run the ladder again, which repeats no finished run"
        ) from None
    arms: dict[str, Arm] = {}
    gone = sum(not _folder_of(folder, row).is_dir() for row in rows)
    last = results.get("environment") or {}  # of the last command
    made = [last | (row.get(MADE) or {}) for row in rows]
    for row, conditions in zip(rows, made, strict=True):
        arm = arms.setdefault(row["rung"], Arm(rung_of(row["rung"]), []))
        arm.runs.append(replace(_read_run(folder, row), made=conditions))
    # The many short cells of the depth figure, perhaps of another machine, are compared with none.
    compared = [each for row, each in zip(rows, made, strict=True) if row.get("group") != "depth"]
    usual = Counter(map(origin, compared or made)).most_common(1)
    return Results(
        budget=results.get("budget") or {},
        corpus=results.get("corpus") or {},
        environment=next((each for each in made if usual and origin(each) == usual[0][0]), last),
        comparable=bool(results.get("comparable", True)),
        arms=arms,
        baselines=_kept(folder / BASELINES) or {},
        attention=_kept(folder / ATTENTION),
        group_rates=(_optional(folder / GROUP_RATES) or {}).get("rungs") or {},
        decode=_kept(folder / DECODE),
        without_folder=gone,
    )


def rung_of(id: str) -> Rung:
    """The rung of an id; a bare one for results of a ladder that had others."""
    return KNOWN.get(id) or Rung(id, id, None, lambda config: config, "", group="")


def _place(id: str) -> tuple[int, str]:
    order = list(KNOWN)
    return (order.index(id), "") if id in KNOWN else (len(order), id)


def _folder_of(folder: Path, row: dict[str, Any]) -> Path:
    # Only the last part of the path counts, so that a row cannot point out of the folder.
    return folder / RUNS / Path(str(row.get("folder") or "-")).name


def _read_run(folder: Path, row: dict[str, Any]) -> Run:
    path = _folder_of(folder, row)
    try:
        lines = (path / METRICS).read_text(encoding="utf-8").splitlines()
        metrics = [_parse(line) for line in lines]
    except (OSError, ValueError):
        metrics = []
    return Run(row, _optional(path / RESULT) or {}, metrics, _optional(path / CONFIG) or {})


def _kept(path: Path) -> Any:
    """A measurement without the checksum that :mod:`mytnano.kept` adds to it."""
    found = _optional(path)
    if isinstance(found, dict):
        found.pop("checksum", None)
    return found


def _optional(path: Path) -> Any:
    try:
        return _read_json(path)
    except (OSError, ValueError):
        return None


def _read_json(path: Path) -> Any:
    return _parse(path.read_text(encoding="utf-8"))


def _parse(text: str) -> Any:
    return json.loads(text, parse_constant=lambda word: None)
