"""The log's fixed learning rates against a tuned one, by the lab's rule, on one sound design.

A rate is not a design choice, so the lab tunes it and takes no rate for an arm. Here it is the
question: the same runs, seeds and rule, with the rate given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from mytnano.config import DataConfig
from mytnano.environment import choose_device, environment
from mytnano.errors import UserError
from mytnano.lab.answer import pairs_of, unfit_seeds
from mytnano.lab.cells import Runner, each_with, runner_at
from mytnano.lab.folder import settled_precision
from mytnano.lab.plan import Arm, make_plan
from mytnano.lab.spec import Spec, read_spec
from mytnano.ladder.cells import Where
from mytnano.runs.lock import folder_lock
from mytnano.runs.store import finished_runs
from mytnano.stats.verdict import Rule, judge
from mytnano.verdicts import words

LOGGED = (1e-5, 2e-5, 3e-4)
SEEDS = 8
QUESTION = {
    "arms": {"twin": {"salt": "rates"}}, "test_bytes": 2**17, "validation_bytes": 2**16,
}  # fmt: skip
"""Gives budget and text; the arm only makes it a question."""


def measure_rates(
    folder: Path, console: Console, device: str, workers: int | None
) -> dict[str, Any]:
    """Verdicts on the log's rates, as the lab's answers have them.

    Raises:
        UserError: a run failed, or the tuned design is not fit to be compared with.
    """
    device = choose_device(device)
    spec = read_spec(QUESTION)
    data = DataConfig(corpus=spec.corpus, split=spec.split)
    with folder_lock(folder):
        where = Where(data, folder, settled_precision(folder, device), device)
        with runner_at(where, workers, console) as runner:
            return _measured(spec, runner) | {"environment": environment(device, where.precision)}


def _measured(spec: Spec, runner: Runner) -> dict[str, Any]:
    where = runner.where
    design = make_plan(spec, where).baseline.config
    tuned = Arm("tuned", design)

    rate = runner.tune((tuned,), spec.tuning_seeds, spec.margin)["tuned"]
    arms = {tuned: rate.lr} | {Arm(f"lr-{lr:g}", design): lr for lr in LOGGED}
    lrs = {arm.name: lr for arm, lr in arms.items()}
    runs = runner.confirm(each_with(list(arms), range(SEEDS)), lrs, "confirmed")
    if unfit := unfit_seeds(runs["tuned"]):
        raise UserError(f"the design at its tuned rate is {unfit}: nothing can be held against it")
    rule = Rule(alpha=spec.alpha, margin=spec.margin)
    others = [arm.name for arm in arms if arm is not tuned]
    verdicts = judge([pairs_of(name, runs[name], runs["tuned"]) for name in others], rule)
    finished, _ = finished_runs(where.out)
    return {
        "question": "Do the log's fixed learning rates suffice?",
        "arms": [
            words.as_json(each, words.sentence(each, f"the tuned {rate.lr:g}", rule), None)
            for each in verdicts
        ],
        "lr": rate.lr,
        "lr_points": rate.tuned.points,
        "train_bytes": spec.train_bytes,
        "corpus": spec.corpus,
        "runs": len(finished),
        "run_minutes": sum(run.result()["seconds"] for run in finished) / 60,
    }
