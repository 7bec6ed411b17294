"""Made-up runs of made-up trainers, and the command that judges them."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mytnano import cli

ROOT = Path(__file__).resolve().parent.parent
SEEDS = 12
EFFECTS = {"relu": 0.0, "swiglu": -1.0, "gelu": 0.01, "same": None, "bad": 2.0}


def values(arms=None, seeds=SEEDS, deviation=0.08):
    """(arm, seed) -> metric; an arm of effect None repeats the first."""
    rng = np.random.default_rng(4)
    common = 2.0 + 0.02 * rng.standard_normal(seeds)
    found = {}
    for name, effect in (arms or EFFECTS).items():
        noise = rng.standard_normal(seeds) * deviation
        for seed in range(seeds):
            percent = 0.0 if effect is None else effect + noise[seed]
            first = found.get(("relu", seed), common[seed])
            found[name, seed] = first if effect is None else common[seed] * (1 + percent / 100)
    return found


def rows_of(metrics, **more):
    return [
        {"arm": arm, "seed": seed, "metric": value, **more}
        for (arm, seed), value in metrics.items()
    ]


def write(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, names, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def command(monkeypatch, tmp_path, capsys):
    """What runs the command on rows, on a text, or on the file as it is (None).

    It returns (exit code, output, error, JSON), the last None if none was written.
    """
    monkeypatch.chdir(tmp_path)

    def run(content, *words):
        path = Path("runs.csv")
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif content is not None:
            write(path, content)
        kept = Path("out.json")
        kept.unlink(missing_ok=True)
        argv = ["mytnano", "verdict", str(path), "--json", str(kept), *map(str, words)]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        found = json.loads(kept.read_text()) if kept.exists() else None
        return ended.value.code or 0, said.out, said.err, found

    return run
