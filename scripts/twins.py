"""An A/A test of the whole lab on real runs, and write results/stats/twins.json.

    python scripts/twins.py FOLDER            as published; FOLDER keeps the runs, to be continued
    python scripts/twins.py FOLDER --twins N
    python scripts/twins.py --again           recombine the scores of that file, without training

Trains twins of one small design that differ in nothing but the salt, and recombines them at random
into pseudo-ablations of pairs. Whatever the rule calls better or worse there is wrong. Simulation
knows the distribution that it draws from; real losses have the one that they have.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy import stats

from mytnano.config import DataConfig
from mytnano.environment import count_workers, environment
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.lab.cells import Runner
from mytnano.lab.plan import make_plan
from mytnano.lab.spec import read_spec
from mytnano.ladder.cells import Where
from mytnano.runs.lock import folder_lock
from mytnano.stats.differences import Pairs
from mytnano.stats.eprocess import FEWEST
from mytnano.stats.verdict import Rule, judge
from mytnano.training.precision import choose_precision

FILE = Path(__file__).resolve().parent.parent / "results/stats/twins.json"
TWINS = 64
ABLATIONS = 400
LR = 4e-3
SIZES = {"train_bytes": 2**16, "test_bytes": 2**16, "validation_bytes": 2**14}
ALPHAS = (0.05, 0.01)
ENOUGH = ("equivalent", "identical")
"""Verdicts besides a difference with which an ablation stops."""


def train_twins(out: Path, count: int, console: Console) -> tuple[list[float], dict[str, Any]]:
    """Test BPB of each twin, and the conditions.

    Raises:
        UserError: a run failed, or another command works in the folder.
    """
    spec = read_spec({"arms": {f"twin{i}": {"salt": f"twin{i}"} for i in range(count)}, **SIZES})
    precision, speeds = choose_precision("cpu")
    where = Where(DataConfig(), out, precision, "cpu")
    runner = Runner(where, count_workers(None, "cpu"), speeds[precision], console)
    with folder_lock(out):
        plan = make_plan(spec, where)
        jobs = [runner.job(arm, LR, 0, "confirmed") for arm in plan.arms]
        results = runner.train(jobs)
    conditions = environment("cpu", precision) | {"workers": runner.workers}
    return [results[job.name]["test_bpb"] for job in jobs], conditions


def recombined(scores: list[float], alpha: float) -> dict[str, Any]:
    """Verdicts on random pairings of the twins, looked at after every pair.

    The pairings share runs, so they are not independent: the limits are those of independent ones.
    """
    chance = np.random.default_rng(0)
    counts: dict[str, int] = {}
    for _ in range(ABLATIONS):
        mixed = chance.permutation(scores)
        half = len(mixed) // 2
        said = first_said(mixed[:half], mixed[half : 2 * half], Rule(alpha=alpha))
        counts[said] = counts.get(said, 0) + 1
    wrong = counts.get("better", 0) + counts.get("worse", 0)
    limits = stats.binomtest(wrong, ABLATIONS).proportion_ci(0.95, "exact")
    return {
        "alpha": alpha, "ablations": ABLATIONS, "wrong": wrong, "low": limits.low,
        "high": limits.high, "said": counts,
    }  # fmt: skip


def first_said(baseline: np.ndarray, twin: np.ndarray, rule: Rule) -> str:
    """The verdict with which an ablation that looks after every pair would have stopped.

    Later pairs may contradict it, but by then it is published. ``unresolved`` if none decides.
    """
    for pairs in range(FEWEST, len(twin) + 1):
        (verdict,) = judge([Pairs("twin", baseline[:pairs], twin[:pairs])], rule)
        if verdict.detected or verdict.verdict in ENOUGH:
            return verdict.detected or verdict.verdict
    return "unresolved"


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with a sentence about what to fix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", type=Path, nargs="?", metavar="FOLDER")
    what.add_argument("--again", action="store_true")
    parser.add_argument("--twins", type=int, default=TWINS, metavar="N")
    given = parser.parse_args(arguments)
    if given.again:
        study = json.loads(FILE.read_bytes())
        study["rows"] = [recombined(study["scores"], alpha) for alpha in ALPHAS]
        atomic_write_json(FILE, study)
        return 0
    try:
        scores, conditions = train_twins(given.folder, given.twins, Console())
    except UserError as error:
        print(f"twins: {error}", file=sys.stderr)
        return 2
    deviation = 100 * float(np.std(np.log(scores), ddof=1))
    study = {
        "environment": conditions, "twins": given.twins, "design": "small", "lr": LR, **SIZES,
        "mean": float(np.mean(scores)), "deviation_percent": deviation, "scores": scores,
        "rows": [recombined(scores, alpha) for alpha in ALPHAS],
    }  # fmt: skip
    atomic_write_json(FILE, study)
    print(f"{FILE.name} written; `make docs` shows it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
