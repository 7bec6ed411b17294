"""Toy jobs for the runner, kills, and a toy command: ``OUT WORKERS [SECONDS [ACT]]``."""

import ctypes
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from mytnano.cli import STOPPED
from mytnano.errors import UserError
from mytnano.files import atomic_write_bytes, atomic_write_json
from mytnano.runs.jobs import Job, Report
from mytnano.runs.lock import folder_lock
from mytnano.runs.runner import run_jobs
from mytnano.training.care import Progress

KEPT = []


def toy_job(out: Path, rung: str, seed: int, seconds: float = 0.0, act: str = "", **more) -> Job:
    name = f"{rung}-s{seed}"
    config = {"out": str(out), "seconds": seconds, "act": act, **more}
    return Job(name, rung, seed, config, Path(out) / "runs" / f"{name}-abc", "abc", seconds or 1.0)


def toy_work(job: Job, report: Report) -> None:
    """A few short steps and three files; leaves a line in the trace when it starts."""
    trace(job, f"start {job.name} {os.getpid()} {os.environ.get('OMP_NUM_THREADS')}")
    act(job, report)
    steps = 5
    for step in range(1, steps + 1):
        time.sleep(job.config["seconds"] / steps)
        report.progress(Progress(step, steps, 3.0 / step, None, 1000.0))
    atomic_write_bytes(job.folder / "model.bin", os.urandom(20_000))
    atomic_write_json(job.folder / "config.json", job.config)
    atomic_write_json(job.folder / "result.json", {"rung": job.rung, "seed": job.seed})


def act(job: Job, report: Report) -> None:
    match job.config["act"]:
        case "raise":
            raise ZeroDivisionError("no such number")
        case "refuse":
            raise UserError("the text is too short; give a longer one")
        case "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once":
            marker = Path(job.config["out"]) / "died"
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            sys.exit(3)
        case "have a child":
            KEPT.append(multiprocessing.get_context("spawn").Semaphore())
            child = subprocess.Popen(["sleep", "60"])
            trace(job, f"child {job.name} {child.pid} -")
        case "unbind and have a child":
            # As on a system whose kernel does not end a process with its parent.
            ctypes.CDLL(None).prctl(1, 0)
            child = subprocess.Popen(["sleep", "60"])
            trace(job, f"child {job.name} {child.pid} -")
        case "talk":
            print("from Python", flush=True)
            os.system("echo from a child")
            report.note("said once")


def trace(job: Job, line: str) -> None:
    with open(Path(job.config["out"]) / "trace", "a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_trace(out: Path) -> list[list[str]]:
    path = Path(out) / "trace"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def started(out: Path) -> list[str]:
    """Names of the jobs in the order begun."""
    return [words[1] for words in read_trace(out) if words[0] == "start"]


def toy_groups(
    out: Path, rungs: int = 5, seeds: int = 2, seconds: float = 0.15, act: str = ""
) -> list[list[Job]]:
    return [[toy_job(out, f"r{r}", s, seconds, act) for s in range(seeds)] for r in range(rungs)]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def kill_9(process: subprocess.Popen) -> int:
    """Kill a command; the number of its workers, which must all be gone soon."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.kill()
    process.wait()
    # Not read to its end: whoever outlived the parent would keep that from coming.
    process.stderr.close()
    assert wait_until(lambda: not any(alive(child.pid) for child in children)), "orphans"
    return len(children)


def main() -> int:
    out, workers = Path(sys.argv[1]), int(sys.argv[2])
    seconds, act = float((sys.argv[3:] or [0.15])[0]), (sys.argv[4:] or [""])[0]
    groups = toy_groups(out, seconds=seconds, act=act)
    try:
        with folder_lock(out):
            return run_jobs(groups, toy_work, workers, 1, lambda event: None).exit_code
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130


if __name__ == "__main__":
    # Under its own name, so that the workers can import the job function.
    from runs_toys import main

    sys.exit(main())
