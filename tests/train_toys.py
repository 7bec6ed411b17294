"""A small text and a small run for the tests of ``mytnano train``.

As a program: ``OUT TEXT KILLS`` kills the command with -9 so many times at random moments, then
lets it end. It forks, so that the libraries are imported once.
"""

import io
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from model_toys import words
from rich.console import Console

from mytnano import cli
from mytnano.config import DataConfig
from mytnano.designs.settings import assignments
from mytnano.solo import run as solo
from mytnano.solo.plan import Request
from mytnano.solo.run import Ways, train_one
from mytnano.training import loop
from mytnano.training.peak import Peak

STEPS = 60
SMALL = [
    "width=16", "heads=2", "kv_heads=1", "layers=1", "ffn_width=24", "tokenizer=char",
    "window_bytes=64", "batch_windows=4", "evaluations=4", "validation_bytes=2000",
    "curve_bytes=1000", "test_bytes=2000",
]  # fmt: skip


def finished_run(path: Path, out: Path) -> tuple[Path, str]:
    """The folder of one run, and what was printed."""
    said = io.StringIO()
    made(toy_request(path, "optimizer=muon"), out, Console(file=said, width=400))
    return out, said.getvalue()


def hurry(monkeypatch) -> None:
    """No peak is measured, and samples are short."""
    monkeypatch.setattr(solo, "peak", lambda device, precision: Peak(1e11, "measured"))
    monkeypatch.setattr(loop, "SAMPLE_TOKENS", 4)


def command(monkeypatch, *words) -> int:
    """The exit code of ``mytnano train`` with these words."""
    monkeypatch.setattr(sys, "argv", ["mytnano", "train", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code or 0


def text_file(folder: Path) -> Path:
    path = Path(folder) / "text.txt"
    path.write_bytes(b"\n\n".join(words(40, 700)))
    return path


def toy_request(path: Path, *more: str, recipe: str = "mytnano", **fields) -> Request:
    fields = {"bytes": STEPS * 4 * 64, **fields}
    data = DataConfig(corpus=str(path), split="tail:0.1")
    return Request(recipe, data=data, changes=assignments([*SMALL, *more]), **fields)


def made(request: Request, out: Path, console: Console | None = None, **ways) -> dict:
    return train_one(request, Ways(**ways), Path(out), console or Console(quiet=True))


def main() -> None:
    out, path, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    moments = random.Random(kills)
    reached = []
    while True:
        child = os.fork()
        if child == 0:
            made(toy_request(path, "optimizer=muon"), out, checkpoint_minutes=1e-9)
            os._exit(0)
        if len(reached) == kills:
            sys.exit(os.waitpid(child, 0)[1])
        # From the planning to the middle of the steps, whatever the speed of the machine.
        wanted = moments.randint(0, STEPS - 10)
        while len(lines(out)) < wanted and os.waitpid(child, os.WNOHANG)[0] == 0:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        reached.append(len(lines(out)))
        print(reached[-1], flush=True)


def lines(out: Path) -> list[str]:
    try:
        return (out / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    main()
