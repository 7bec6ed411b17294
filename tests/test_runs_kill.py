"""Real kills of real processes: nothing finished is lost or repeated, nobody is left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import runs_toys
from runs_toys import alive, kill_9, wait_until

from mytnano.runs.jobs import Finished
from mytnano.runs.process import WorkerProcess
from mytnano.runs.store import RunFolder, finished_runs

TOY = [sys.executable, runs_toys.__file__]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def command(out: Path, workers: int = 2, *more: object) -> subprocess.Popen:
    arguments = [*TOY, *map(str, (out, workers, *more))]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)


def workers_of(out: Path) -> set[int]:
    """Process ids of all that ever worked, and of the children they had."""
    return {int(words[2]) for words in runs_toys.read_trace(out)}


def finished(out: Path) -> dict[str, bytes]:
    runs, notes = finished_runs(out)
    assert notes == [], "a kill never leaves a damaged run"
    return {run.path.name: (run.path / "model.bin").read_bytes() for run in runs}


def test_kill_9_at_twenty_random_moments_loses_and_repeats_nothing(tmp_path):
    moments = random.Random(0)
    everything = {job.folder.name for group in runs_toys.toy_groups(tmp_path) for job in group}
    kills = killed_at_work = rounds = 0
    while kills < 20:
        out = tmp_path / str(rounds)
        rounds += 1
        while len(finished(out)) < len(everything) and kills < 20:
            before, begun = finished(out), len(runs_toys.started(out))
            process = command(out)
            # Work has begun, whatever the machine's load, and then a little longer.
            while process.poll() is None and len(runs_toys.started(out)) == begun:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.4))
            killed_at_work += kill_9(process) > 0
            kills += 1
            assert wait_until(lambda: not any(map(alive, workers_of(out)))), "orphans"  # noqa: B023
            again = set(runs_toys.started(out)[begun:])
            assert not {f"{name}-abc" for name in again} & set(before), "a finished run repeated"
            after = finished(out)
            assert before.items() <= after.items(), "a finished run was lost or changed"
        process = command(out)
        assert process.wait(20) == 0
        assert set(finished(out)) == everything
    assert killed_at_work >= 10, "the kills came too early or too late to prove anything"


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
@pytest.mark.parametrize("act", ["", "unbind and have a child"])
def test_no_worker_outlives_a_killed_parent_however_long_its_job(tmp_path, act):
    process = command(tmp_path, 2, 60, act)
    expected = 4 if act else 2
    assert wait_until(lambda: len(runs_toys.read_trace(tmp_path)) == expected)
    pids = workers_of(tmp_path)
    assert len(pids) == expected and all(map(alive, pids))
    kill_9(process)
    assert wait_until(lambda: not any(map(alive, pids)), 5)


def test_ctrl_c_stops_what_the_workers_have_started(tmp_path):
    process = command(tmp_path, 2, 60, "have a child")
    assert wait_until(lambda: len(runs_toys.read_trace(tmp_path)) == 4)
    pids = workers_of(tmp_path)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "stopped; the same command continues\n")
    assert wait_until(lambda: not any(map(alive, pids)), 5)


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_stops_everything_and_the_same_command_continues(tmp_path, workers):
    process = command(tmp_path, workers)
    assert wait_until(lambda: len(runs_toys.started(tmp_path)) >= 3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "stopped; the same command continues\n")
    assert not any(map(alive, workers_of(tmp_path)))
    before = finished(tmp_path)
    assert 0 < len(before) < 10
    assert command(tmp_path, workers).wait(20) == 0
    assert before.items() <= finished(tmp_path).items()
    assert len(finished(tmp_path)) == 10


def test_ctrl_c_does_not_hit_a_worker_that_is_just_starting(tmp_path):
    """A terminal sends the signal to every process; only the parent may act on it."""
    worker = WorkerProcess(runs_toys.toy_work)
    worker.start(threads=1)
    os.kill(worker._process.pid, signal.SIGINT)
    worker.give(0, runs_toys.toy_job(tmp_path, "a", 0))
    try:
        while not isinstance(worker.connection.recv(), Finished):
            pass
    finally:
        worker.stop()
    assert list(finished(tmp_path)) == ["a-s0-abc"]


def test_a_worker_killed_from_outside_has_its_job_repeated(tmp_path):
    process = command(tmp_path)
    assert wait_until(lambda: runs_toys.read_trace(tmp_path))
    _, name, pid, _ = runs_toys.read_trace(tmp_path)[0]
    os.kill(int(pid), signal.SIGKILL)
    assert process.wait(20) == 0
    begun = runs_toys.started(tmp_path)
    assert begun.count(name) == 2
    assert len(begun) == 11
    assert len(finished(tmp_path)) == 10


def test_two_commands_in_one_folder(tmp_path):
    first = command(tmp_path)
    assert wait_until(lambda: runs_toys.read_trace(tmp_path))
    second = command(tmp_path)
    _, said = second.communicate(timeout=20)
    assert second.returncode == 2
    assert said.startswith(f"process {first.pid} is already working in {tmp_path};")
    kill_9(first)
    third = command(tmp_path)
    assert third.wait(20) == 0, "a killed owner holds nothing"
    assert len(finished(tmp_path)) == 10


def test_a_damaged_run_is_repeated_and_kept_aside(tmp_path):
    assert command(tmp_path).wait(20) == 0
    before = finished(tmp_path)
    victim = tmp_path / "runs" / "r3-s1-abc"
    (victim / "model.bin").write_bytes(b"rot")
    assert command(tmp_path).wait(20) == 0
    assert runs_toys.started(tmp_path)[10:] == ["r3-s1"]
    assert (victim.with_name("r3-s1-abc.damaged-1") / "model.bin").read_bytes() == b"rot"
    assert RunFolder(victim, "abc").is_finished()
    del before[victim.name]
    assert before.items() <= finished(tmp_path).items()
