"""What the ranks of a test do: ``scale_toys.py FOLDER '[{"steps": 10, ...}, ...]'``."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch
from model_toys import HEALTHY, text_of, toy_run, words

from mytnano.config import RunConfig
from mytnano.designs.scale import SCALE
from mytnano.distributed import run as shared
from mytnano.distributed.world import is_chief
from mytnano.errors import UserError

SMALL = {**HEALTHY, "tied": True, "init": "gpt2"}


def toy_text():
    return text_of([words(12, 700, seed=0), words(2, 700, seed=1), words(2, 700, seed=2)])


def toy_config(text, steps: int = 10, tiny: bool = False, **sections) -> RunConfig:
    """``steps`` steps of 8 windows in passes of two, of mytNano in small or of mytllm-tiny."""
    train = {"micro_windows": 2, "evaluations": 2, **sections.pop("train", {})}
    train["train_bytes"] = steps * 8 * 32
    model = SCALE["mytllm-tiny"].model.model_dump() if tiny else SMALL
    model = {**model, **sections.pop("model", {})}
    optim = {"lr": 3e-3, **sections.pop("optim", {})}
    config = toy_run(text, steps, model=model, train=train, optim=optim, **sections)
    return config.but(model={"vocab_size": 384}) if tiny else config


def launch(folder: Path, ranks: int, acts: list[dict], restarts: int | None = None):
    """This file as ranks of one job: by torchrun if ``restarts`` is given, which takes longer."""
    words = [__file__, str(folder), json.dumps(acts)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if restarts is not None:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        torchrun += ["--nproc-per-node", str(ranks), "--max-restarts", str(restarts)]
        command = [*torchrun, "--monitor-interval", "0.2", *words]
        return [start(command, environment)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    environment |= {"TORCHELASTIC_RUN_ID": "test"}
    places = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks))
    return [start([sys.executable, *words], environment | place) for place in places]


def start(command: list[str], environment: dict) -> subprocess.Popen:
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run_ranks(folder: Path, ranks: int, *acts: dict, restarts: int | None = None) -> str:
    """Let ranks play acts to their end; what they printed."""
    processes = launch(folder, ranks, list(acts), restarts)
    try:
        said = "".join(process.communicate(timeout=300)[0] for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["train_loss"] for line in lines]


class Acting(shared.SharedRun):
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


def play(root: Path, text, act: dict) -> None:
    """One training in ``root/<folder>``, which may begin as a copy ``of`` another."""
    folder = root / act.pop("folder")
    if "of" in act and is_chief():
        shutil.copytree(root / act["of"], folder)
    act.pop("of", None)
    for name in ("stop_at", "kill_at", "save_every"):
        setattr(Acting, name, act.pop(name, 0))
    try:
        shared.train(lambda world: shared.Begun(toy_config(text, **act), text), folder, "cpu")
    except UserError as error:
        if is_chief():
            print(f"{folder.name}: {error}")


def main(root: Path, acts: list[dict]) -> None:
    torch.set_num_threads(1)
    shared.SharedRun = Acting
    text = toy_text()
    for act in acts:
        play(root, text, act)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
