"""The ladder's outputs: one row per finished run, as CSV and JSON."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path

from mytnano.designs.budgets import Budget
from mytnano.designs.rungs import RUNGS
from mytnano.files import atomic_write_json, atomic_write_text
from mytnano.ladder.cells import Where
from mytnano.runs.store import RunFolder
from mytnano.training.text import prepare

COLUMNS = (
    "rung", "seed", "tokenizer", "vocab_size", "params", "params_non_embedding", "train_bytes", "train_tokens", "flops",
    "test_loss", "test_accuracy", "test_perplexity", "test_bits_per_token", "test_bpb", "status", "tokens_per_second",
    "seconds", "peak_memory_bytes", "config_hash", "validation_bpb", "lr", "group", "context", "comparable", "folder",
)  # fmt: skip
"""Columns of results.csv; loss is nats per token, BPB bits per UTF-8 byte."""


def row(folder: RunFolder, out: Path) -> dict[str, object]:
    """The columns of one finished run."""
    found = folder.result() | {
        "lr": folder.config()["optim"]["lr"],
        "folder": folder.path.relative_to(out).as_posix(),
    }
    return {column: found.get(column) for column in COLUMNS}


def collect(folders: list[Path], out: Path) -> list[dict[str, object]]:
    """Rows of the given run folders in ladder order, seeds ascending."""
    order = {id: i for i, id in enumerate(RUNGS)}
    rows = [row(RunFolder(path), out) for path in folders]
    return sorted(rows, key=lambda r: (order.get(str(r["rung"]), len(order)), r["seed"]))


def write_results(
    rows: list[dict[str, object]], where: Where, budget: Budget, environment: dict[str, object]
) -> None:
    """Write results.csv and results.json into the output folder."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(where.out / "results.csv", text.getvalue())
    corpus = prepare(where.data.but(tokenizer="byte"), where.cache).corpus
    atomic_write_json(
        where.out / "results.json",
        {
            "budget": asdict(budget),
            "corpus": {
                "name": corpus.name,
                "fingerprint": corpus.fingerprint,
                "notes": corpus.notes,
                "bytes": {
                    s: sum(map(len, getattr(corpus, s))) for s in ("train", "validation", "test")
                },
            },
            "environment": environment,
            "comparable": budget.test_bytes == 0,
            "runs": rows,
        },
    )
