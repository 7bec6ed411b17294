"""What the ranks of a test do: ``torchrun ... scale_toys.py FOLDER '{"steps": 10, ...}'``."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from model_toys import HEALTHY, text_of, toy_run, words

from mytnano.config import RunConfig
from mytnano.distributed import run as shared
from mytnano.distributed.world import is_chief
from mytnano.errors import UserError

FINISHED = "finished.json"


def toy_text():
    return text_of([words(12, 700, seed=0), words(2, 700, seed=1), words(2, 700, seed=2)])


def toy_config(text, steps: int = 10, **sections) -> RunConfig:
    """A mytNano in small; 8 windows a batch in passes of 2."""
    train = {"micro_windows": 1, "evaluations": 2, "train_bytes": steps * 8 * 32}
    train |= sections.pop("train", {})
    model = {**HEALTHY, "tied": True, "init": "gpt2", **sections.pop("model", {})}
    config = toy_run(text, steps, model=model, train=train, **sections)
    return config.but(optim={"lr": 3e-3})


def launch(folder: Path, ranks: int, restarts: int = 0, **options) -> subprocess.Popen:
    """``torchrun`` of this file."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += [str(ranks), "--max-restarts", str(restarts), "--monitor-interval", "0.2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, __file__, str(folder), json.dumps(options)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def run_ranks(folder: Path, ranks: int, code: int = 0, **options) -> str:
    """Run to the end; what the ranks printed."""
    process = launch(folder, ranks, **options)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == code, said
    return said


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [point["train_loss"] for point in metrics(folder)]


class Stopping(shared.SharedRun):
    """Saves every few steps; stops after some, or its last rank kills itself then, once."""

    save_every = stop_at = kill_at = 0

    def _agreed(self, *decisions: bool) -> tuple[bool, ...]:
        super()._agreed(*decisions)
        return False, bool(self.save_every) and self.step % self.save_every == 0

    def _batch(self):
        marker = self.folder / "killed"
        if self.step == self.kill_at > 0 and not marker.exists():
            self.checkpoints.wait()
            if self.world.rank == self.world.size - 1:
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if self.step == self.stop_at > 0:
            raise UserError("stopped here")
        return super()._batch()


def main(folder: Path, options: dict) -> None:
    torch.set_num_threads(1)
    for name in ("stop_at", "kill_at", "save_every"):
        setattr(Stopping, name, options.pop(name, 0))
    shared.SharedRun = Stopping
    text = toy_text()
    result = shared.train(lambda: (toy_config(text, **options), text), folder, "cpu")
    if result is not None:
        (folder / FINISHED).write_text(json.dumps(result))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), json.loads(sys.argv[2]))
    except UserError as error:
        if is_chief():
            print(f"mytnano: {error}")
        sys.exit(2)
