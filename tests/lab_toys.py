"""A tiny question on a small text, and a stand-in for training."""

import io
import math
import random
from pathlib import Path
from unittest.mock import patch

from ladder_toys import write_text
from rich.console import Console

from mytnano.config import DataConfig
from mytnano.lab import cells as module
from mytnano.lab.run import ablate
from mytnano.ladder.cells import Where
from mytnano.runs.jobs import Finished, Summary

TINY = {
    "from": "small", "width": 16, "layers": 1, "heads": 2, "kv_heads": 2, "ffn_width": 32,
    "tokenizer": "byte", "window_bytes": 64,
}  # fmt: skip


def question(folder: Path, **fields) -> dict:
    """Whether ReLU is as good as GELU, on next to nothing."""
    text = folder / "farm.txt"
    if not text.exists():
        write_text(text, 30_000)
    defaults = {
        "baseline": TINY, "arms": {"relu": {"ffn": "relu"}}, "corpus": str(text),
        "train_bytes": 8192, "test_bytes": 4096, "validation_bytes": 4096, "tuning_seeds": 1,
    }  # fmt: skip
    return {**defaults, **fields}


def where(folder: Path, text: str) -> Where:
    return Where(DataConfig(corpus=text), folder / "out", "fp32", "cpu")


def in_fp32():
    """Within it no processor's units for bf16 are noticed by the lab."""
    return patch("mytnano.lab.folder.choose_precision", lambda device: ("fp32", {}))


def ask(folder: Path, out: str = "out", time: bool = False, fleet: str = "auto", **fields):
    """Answer it in this process; the answer and what was printed.

    In fp32 on every processor: what these runs come to is part of some tests.
    """
    printed = io.StringIO()
    console = Console(file=printed, width=140)
    asked = question(folder, **fields)
    with in_fp32():
        found = ablate(asked, folder / out, console, workers=0, time=time, fleet=fleet)
    return found, printed.getvalue()


def scores(effects: dict[str, float], size: float = 0.001):
    """Runs whose arms differ from the baseline by known percentages."""

    def score(arm, lr, seed):
        chance = random.Random(f"{arm}/{seed}").gauss(0, size)
        return 2.0 * (1 + effects.get(arm, 0.0) / 100) + chance + 0.02 * math.log2(lr / 0.004) ** 2

    return score


def pretend(monkeypatch, score, status=lambda arm, seed: "healthy"):
    """Replace training: each run ends at ``score(arm, lr, seed)``. Returns the jobs, which grow."""
    return pretend_jobs(
        monkeypatch,
        lambda job: score(job.rung, job.config[0].optim.lr, job.seed),
        lambda job: status(job.rung, job.seed),
    )


def pretend_jobs(monkeypatch, score, status=lambda job: "healthy"):
    """As :func:`pretend`, with ``score(job)``."""
    jobs = []

    def run_jobs(groups, work, workers, threads, hear):
        now = [job for group in groups for job in group]
        made = {job.name for job in jobs}
        jobs.extend(now)
        summary = Summary([Finished(job, result_of(job), 0.0, job.name in made) for job in now])
        for event in summary.finished:
            hear(event)
        return summary

    def result_of(job):
        bpb, state = score(job), status(job)
        return {
            "validation_bpb": bpb, "test_bpb": None if state == "diverged" else bpb,
            "status": state, "flops": 1.0, "params": 1, "train_bytes": 1, "seconds": 1.0,
            "config_hash": job.hash,
        }  # fmt: skip

    monkeypatch.setattr(module, "run_jobs", run_jobs)
    return jobs
