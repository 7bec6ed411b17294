"""The ladder's outputs: one row per finished run, as CSV and JSON."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mytnano.designs.budgets import Budget
from mytnano.designs.rungs import KNOWN
from mytnano.files import MANIFEST, atomic_write_json, atomic_write_text
from mytnano.run_files import MADE, RESULTS, origin
from mytnano.runs.jobs import Event, Finished
from mytnano.runs.store import RunFolder
from mytnano.text.corpus import Corpus

COLUMNS = (
    "rung", "seed", "tokenizer", "vocab_size", "params", "params_non_embedding", "train_bytes",
    "train_tokens", "flops", "test_loss", "test_accuracy", "test_perplexity",
    "test_bits_per_token", "test_bpb", "status", "tokens_per_second", "seconds",
    "peak_memory_bytes", "config_hash", "validation_bpb", "lr", "group", "context", "comparable",
    "folder",
)  # fmt: skip
"""Columns of results.csv; loss is nats per token, BPB bits per UTF-8 byte."""

CSV = "results.csv"


class Results:
    """``results.csv`` and ``results.json`` of an output folder, made from its run folders.

    ``results.json`` also has the budget, the corpus, the conditions, and under ``configs`` the
    resolved config of each rung's first seed. Both are written whenever a run is finished, so that
    they are there however the command ends. The conditions are those of this command; a row that an
    earlier one wrote in others keeps them under ``made``.
    """

    def __init__(
        self, out: Path, budget: Budget, corpus: Corpus, environment: dict[str, object]
    ) -> None:
        self.out = out
        self._about = {
            "budget": asdict(budget),
            "corpus": about_corpus(corpus),
            "environment": environment,
            "comparable": budget.comparable,
        }
        self._rows: dict[str, dict[str, Any]] = {}
        self._configs: dict[str, dict[str, Any]] = {}
        self._unheard: dict[str, dict[str, Any]] = {}
        self._earlier: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            self._earlier = json.loads((out / RESULTS).read_bytes())

    def expect(self, planned: Collection[str]) -> None:
        """Keep the rows that an earlier command wrote of planned runs, by the names of folders.

        Their files are checked only when each run's turn comes, and until then a row must not be
        lost. One whose folder is no longer sealed is dropped.
        """
        with contextlib.suppress(KeyError, TypeError, AttributeError):  # damaged: nothing is kept
            for row in self._earlier["runs"]:
                folder = self.out / row["folder"]
                if folder.name in planned and (folder / MANIFEST).exists():
                    self._unheard[folder.name] = {column: row[column] for column in COLUMNS}
                    config = self._earlier["configs"][row["rung"]]
                    self._configs.setdefault(row["config_hash"], config)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict of :data:`COLUMNS` for each run, in ladder order, seeds ascending."""
        waiting = {
            name: row
            for name, row in self._unheard.items()
            if name not in self._rows and (self.out / row["folder"] / MANIFEST).exists()
        }
        return in_order([*self._rows.values(), *waiting.values()])

    def add(self, folder: Path) -> None:
        """Take in a finished run."""
        run = RunFolder(folder)
        result, config = run.result(), run.config()
        found = {
            **result,
            "lr": config["optim"]["lr"],
            "folder": folder.relative_to(self.out).as_posix(),
        }
        self._rows[folder.name] = {column: found.get(column) for column in COLUMNS}
        self._configs[result["config_hash"]] = config

    def hear(self, event: Event) -> None:
        """Take in a run that has just finished, or was found finished."""
        if isinstance(event, Finished):
            self.add(event.job.folder)
            if not event.reused:
                self.write()

    def write(self) -> None:
        """Write both files; nothing as long as no run is finished.

        Raises:
            UserError: the disk is full.
        """
        rows = self.rows
        if not rows:
            return
        write_csv(self.out, rows)
        configs: dict[str, dict[str, Any]] = {}  # the seeds of a rung differ in nothing else
        for row in rows:
            configs.setdefault(row["rung"], self._configs[row["config_hash"]])
        found = {**self._about, "runs": rows, "configs": configs}
        atomic_write_json(self.out / RESULTS, with_origins(found, self._earlier))


def in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in ladder order, seeds ascending."""
    place = {id: number for number, id in enumerate(KNOWN)}
    return sorted(rows, key=lambda row: (place[row["rung"]], row["seed"]))


def write_csv(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write ``results.csv``; raises UserError if the disk is full."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(folder / CSV, text.getvalue())


def with_origins(found: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """``found``, whose runs that an ``earlier`` file has too keep the conditions told there.

    Args:
        found, earlier: contents of ``results.json``. A run's seconds tell it from its repetition.
    """
    try:
        before = {
            (row["folder"], row["seconds"]): earlier["environment"] | row.get(MADE, {})
            for row in earlier["runs"]
        }
    except (KeyError, TypeError, AttributeError):  # damaged, or there was none
        return found
    here = found["environment"]
    rows = []
    for row in found["runs"]:
        made = before.get((row["folder"], row["seconds"]), here | row.get(MADE, {}))
        if origin(made) != origin(here):
            other = {name: value for name, value in made.items() if here.get(name) != value}
            row = row | {MADE: other}
        rows.append(row)
    return found | {"runs": rows}


def as_most(found: dict[str, Any]) -> dict[str, Any]:
    """``found``, a part of a ladder's results, with the conditions of most of its runs for all."""
    here = found["environment"]
    made = [here | row.get(MADE, {}) for row in found["runs"]]
    usual = Counter(map(origin, made)).most_common(1)[0][0]
    there = next(each for each in made if origin(each) == usual)
    rows = []
    for row, each in zip(found["runs"], made, strict=True):
        other = {name: value for name, value in each.items() if there.get(name) != value}
        row = {name: value for name, value in row.items() if name != MADE}
        rows.append(row | {MADE: other} if origin(each) != usual else row)
    return found | {"environment": there, "runs": rows}


def united(found: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """``found`` and those runs of an ``earlier`` file that it lacks, with their own conditions.

    Args:
        found, earlier: contents of ``results.json``, of one budget and text.
    """
    have, here = {(row["rung"], row["seed"]) for row in found["runs"]}, found["environment"]
    rows = list(found["runs"])
    for row in earlier["runs"]:
        if (row["rung"], row["seed"]) not in have:
            made = earlier["environment"] | row.get(MADE, {})
            other = {name: value for name, value in made.items() if here.get(name) != value}
            rows.append(row | {MADE: other})
    configs = earlier.get("configs", {}) | found.get("configs", {})
    return found | {"runs": in_order(rows), "configs": configs}


def about_corpus(corpus: Corpus) -> dict[str, Any]:
    """Name, fingerprint, notes, and the bytes of each split."""
    sizes = {name: sum(map(len, getattr(corpus, name))) for name in ("train", "validation", "test")}
    return {
        "name": corpus.name,
        "fingerprint": corpus.fingerprint,
        "notes": corpus.notes,
        "bytes": sizes,
    }
