"""What the ranks of a test do: ``scale_toys.py FOLDER '[{"steps": 10, ...}, ...]'``."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from model_toys import HEALTHY, text_of, toy_run, words

from mytnano.config import RunConfig
from mytnano.designs.scale import SCALE
from mytnano.distributed import run as shared
from mytnano.distributed.world import joined
from mytnano.errors import UserError
from mytnano.terminal import is_chief
from mytnano.training.care import Care
from mytnano.training.files import write_curve

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


def launch(folder: Path, ranks: int, acts: list[dict], logs: list, restarts: int | None = None):
    """This file as ranks of one job: by torchrun if ``restarts`` is given, which takes longer.

    What each prints goes to a file of its own, appended to ``logs``: a pipe that nobody reads fills
    up, and then its rank waits, and all others for it.
    """

    def start(command: list[str], environment: dict) -> subprocess.Popen:
        logs.append(tempfile.TemporaryFile("w+"))  # noqa: SIM115 - read when all have ended
        return subprocess.Popen(
            command, env=environment, stdout=logs[-1], stderr=subprocess.STDOUT, text=True
        )

    words = [__file__, str(folder), json.dumps(acts)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if restarts is not None:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        torchrun += ["--nproc-per-node", str(ranks), "--max-restarts", str(restarts)]
        command = [*torchrun, "--monitor-interval", "0.2", *words]
        return [start(command, environment)]
    # As torchrun does: the store is ours, at a port that nobody can take before they come.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    logs.append(store)
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    environment |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    environment |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    environment |= {"TORCHELASTIC_RUN_ID": "test"}
    places = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks))
    return [start([sys.executable, *words], environment | place) for place in places]


def run_ranks(
    folder: Path, ranks: int, *acts: dict, restarts: int | None = None, seconds: float = 300
) -> str:
    """Let ranks play acts to their end, or until one fails; what they printed."""
    logs: list = []
    processes = launch(folder, ranks, list(acts), logs, restarts)
    ends = time.monotonic() + seconds
    try:
        while any(process.poll() is None for process in processes):
            if time.monotonic() > ends or any(process.poll() for process in processes):
                break
            time.sleep(0.05)
    finally:
        codes = [process.poll() for process in processes]
        for process in processes:
            process.kill()
            process.wait()
    said = ""
    for log in (log for log in logs if not isinstance(log, dist.Store)):
        log.seek(0)
        said += log.read()
        log.close()
    assert codes == [0] * len(processes), said
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
    # Of the chief; another rank that is not told would look at its loss at other steps.
    points = act.pop("log_points", 200)
    care = Care(log_points=points if is_chief() else 5)
    written, shared.write_curve = shared.write_curve, full if act.pop("full", 0) else write_curve
    closed = act.pop("closed", False)

    def careful(step: int) -> Care:
        if closed and is_chief():
            raise UserError("its recorder cannot be opened")
        print(f"{folder.name}: after {step}")
        return care

    try:
        begun = lambda world: shared.Begun(toy_config(text, **act), text, careful)
        shared.train(begun, folder, "cpu")
    except UserError as error:
        print(f"{folder.name}: {error}")
    finally:
        shared.write_curve = written


def full(folder: Path, history: dict) -> None:
    raise UserError("no space left")


def refuse(which: int) -> None:
    """Rank ``which`` has an objection, in each way that there is."""
    with joined("cpu") as world:

        def work() -> None:
            if world.rank == which:
                raise UserError(f"objection of {which}")

        objection = f"objection of {which}" if world.rank == which else None
        for way, ask in {
            "agree": lambda: world.agree(objection),
            "each": lambda: world.each(work),
            "chief": lambda: world.from_chief(work),
        }.items():
            try:
                ask()
                print(f"{way} of {world.rank}: nothing")
            except UserError as error:
                print(f"{way} of {world.rank}: {error}")


def main(root: Path, acts: list[dict]) -> None:
    torch.set_num_threads(1)
    shared.SharedRun = Acting
    text = toy_text()
    for act in acts:
        refuse(act["refuse"]) if "refuse" in act else play(root, text, act)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
