"""A small text, small ladders on it, and a ladder command whose runs leave checkpoints often."""

import io
import random
from pathlib import Path

from rich.console import Console

from mytnano import cli
from mytnano.config import DataConfig
from mytnano.ladder import attention_cost, cells, folder, run
from mytnano.ladder.run import Request, climb
from mytnano.runs.jobs import Job, Report
from mytnano.training import loop

SUBJECTS = ("the people", "a farmer", "our river", "the old ship", "every child", "this house")
VERBS = ("carried", "built", "saw", "followed", "remembered", "crossed", "lost")
OBJECTS = ("the harvest", "two roads", "a letter", "the long winter", "its own shadow", "bread")


def write_text(path: Path, size: int = 40_000) -> Path:
    """Sentences of a small grammar in paragraphs; the same text for the same size."""
    chance = random.Random(0)
    parts: list[str] = []
    while sum(map(len, parts)) < size:
        words = (chance.choice(SUBJECTS), chance.choice(VERBS), chance.choice(OBJECTS))
        number = chance.randrange(1000)
        end = "\n\n" if chance.random() < 0.1 else " "
        parts.append(f"{' '.join(words)} {number} times.{end}")
    path.write_text("".join(parts))
    return path


def request(text: Path, out: Path, *rungs: str, **more) -> Request:
    """A ladder in this process at budget smoke, unless told otherwise."""
    defaults = {"budget": "smoke", "data": DataConfig(corpus=str(text)), "workers": 0}
    return Request(**{**defaults, "out": out, "rungs": rungs, **more})


def run_ladder(text: Path, out: Path, *rungs: str, **more) -> str:
    """Climb it to exit code 0; return what was printed."""
    printed = io.StringIO()
    assert climb(request(text, out, *rungs, **more), Console(file=printed, width=120)) == 0
    return printed.getvalue()


def small_attention(monkeypatch) -> None:
    """Measure the cost of attention on next to nothing."""
    monkeypatch.setattr(attention_cost, "QUICK_LENGTHS", (32, 64))
    monkeypatch.setattr(attention_cost, "TOKENS", 64)


def careful_work(job: Job, report: Report) -> None:
    """The ladder's job function, with a checkpoint after nearly every logged step."""
    loop.CHECKPOINT_SECONDS = 0.05
    cells.work(job, report)


def main() -> None:
    """The command line, with ``careful_work`` and without a probe that load could mislead."""
    probe = lambda device: ("fp32", {"fp32": 10_000.0, "bf16": 10_000.0})
    run.choose_precision = folder.choose_precision = probe
    run.work = careful_work
    cli.main()
