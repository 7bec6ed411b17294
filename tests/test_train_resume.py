"""``mytnano train`` goes on exactly, whatever stopped it."""

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys

import pytest
import train_toys
from rich.console import Console
from safetensors.torch import load_file
from train_toys import STEPS, command, finished_run, hurry, made, text_file, toy_request

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.runs.store import RunFolder
from mytnano.solo import plan as solo_plan
from mytnano.solo import run as solo
from mytnano.solo.ranks import train_together
from mytnano.solo.show import resumption_line
from mytnano.training import loop
from mytnano.training.engine import Engine

TIMES = ("tokens_per_second", "seconds")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return text_file(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def finished(path, tmp_path_factory):
    return finished_run(path, tmp_path_factory.mktemp("out") / "run")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    hurry(monkeypatch)


def same(one, other):
    curves = [
        [{k: v for k, v in point.items() if k not in TIMES} for point in RunFolder(run).metrics()]
        for run in (one, other)
    ]
    assert curves[0] == curves[1] and len(curves[0]) == STEPS
    weights = [load_file(run / "model.safetensors") for run in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_a_finished_run_is_not_repeated(finished, path, monkeypatch):
    out, _ = finished
    monkeypatch.setattr(solo, "train", None)
    said = io.StringIO()
    again = made(toy_request(path, "optimizer=muon"), out, Console(file=said, width=400))
    assert again == RunFolder(out).result()
    assert f"{out} is finished already" in said.getvalue()


@pytest.mark.skipif(os.name != "posix", reason="forks and kills")
@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.extras)])
def test_kill_9_at_random_moments_changes_no_bit(finished, path, tmp_path, kills):
    done = subprocess.run(
        [sys.executable, train_toys.__file__, tmp_path / "run", path, str(kills)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    reached = [int(line) for line in done.stdout.split()]
    assert len(reached) == kills and max(reached) > 5, "no kill came between two steps"
    same(finished[0], tmp_path / "run")
    assert RunFolder(tmp_path / "run").is_finished()


def test_ctrl_c_saves_and_the_same_command_goes_on(finished, path, tmp_path, monkeypatch):
    request = toy_request(path, "optimizer=muon")
    update, steps = loop.Engine.update, []

    def counted(engine, lr, norm):
        steps.append(lr)
        if len(steps) == 20:
            os.kill(os.getpid(), 2)
        return update(engine, lr, norm)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Engine, "update", counted)
        with pytest.raises(KeyboardInterrupt):
            made(request, tmp_path / "run")
    assert len(steps) == 20
    said = io.StringIO()
    made(request, tmp_path / "run", Console(file=said, width=400))
    assert "going on after step 20" in said.getvalue()
    same(finished[0], tmp_path / "run")


def test_ctrl_c_while_the_model_is_scored_leaves_at_once(path, tmp_path, monkeypatch):
    request, reached, describe = toy_request(path, bytes=2000), [], loop.describe

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(arguments)
        return describe(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "describe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(request, tmp_path)
    assert not reached
    with monkeypatch.context() as patched:
        patched.setattr(loop.Engine, "update", None)  # not one step is made again
        made(request, tmp_path)
    assert RunFolder(tmp_path).is_finished()


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C in the twentieth step of what is run within."""

    @contextlib.contextmanager
    def within():
        update, steps = Engine.update, []

        def counted(engine, lr, norm):
            steps.append(lr)
            if len(steps) == 20:
                os.kill(os.getpid(), signal.SIGINT)
            return update(engine, lr, norm)

        with monkeypatch.context() as patched:
            patched.setattr(Engine, "update", counted)
            with pytest.raises(KeyboardInterrupt):
                yield

    return within


def test_the_step_that_is_gone_on_from_is_that_of_the_checkpoint_used(path, tmp_path, interrupted):
    request, said = toy_request(path, bytes=6000), io.StringIO()
    with interrupted():
        made(request, tmp_path, checkpoint_minutes=1e-9)
    newest = tmp_path / "checkpoint.bin"
    newest.write_bytes(newest.read_bytes()[:-1])
    made(request, tmp_path, Console(file=said, width=400))
    assert "going on after step 19\n" in said.getvalue()


def test_what_is_said_of_a_run_that_goes_on():
    pace = {"step_seconds": 1.0, "expected_seconds": 100.0}
    plan = solo_plan.SoloPlan(RunConfig(), 2, pace)
    assert resumption_line(plan, 60) == "going on after step 60, about 40 s to go"
    assert resumption_line(plan, 0).startswith("started earlier, but no checkpoint was written")
    assert resumption_line(dataclasses.replace(plan, pace={}), 60) == "going on after step 60"


@pytest.mark.parametrize("place", ["write_curves", "completed", "finish", "clear"])
def test_a_run_killed_while_it_is_sealed_is_not_trained_again(
    finished, path, tmp_path, monkeypatch, place
):
    request, out = toy_request(path, "optimizer=muon"), tmp_path / "run"

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder if place == "finish" else solo, place, killed)
        with pytest.raises(KeyboardInterrupt):
            made(request, out)
    with monkeypatch.context() as patched:
        patched.setattr(loop.Engine, "update", None)  # not one step is made again
        made(request, out)
    same(finished[0], out)
    assert RunFolder(out).is_finished() and not list(out.glob("checkpoint*"))
    assert not (out / "cache").exists()


def test_a_signal_while_a_run_is_sealed_waits_for_the_manifest(path, tmp_path, monkeypatch):
    finish = RunFolder.finish

    def interrupted(run, files):
        os.kill(os.getpid(), 2)
        return finish(run, files)

    monkeypatch.setattr(RunFolder, "finish", interrupted)
    made(toy_request(path, bytes=2000), tmp_path)
    assert RunFolder(tmp_path).is_finished()


def test_what_a_killed_process_left_half_written_is_neither_in_the_way_nor_sealed(path, tmp_path):
    (tmp_path / ".tmp-1234-plan.json").write_text("{")
    made(toy_request(path, bytes=2000), tmp_path)
    files = json.loads((tmp_path / "manifest.json").read_text())["files"]
    assert "model.safetensors" in files and not any(".tmp-" in name for name in files)


def test_a_run_of_ranks_goes_on_without_torchrun(
    path, tmp_path, interrupted, monkeypatch, capsys, finished
):
    monkeypatch.chdir(tmp_path)
    request, out = toy_request(path, "optimizer=muon"), tmp_path / "run"
    with interrupted():
        train_together(request, solo.Ways(), out, Console(quiet=True))
    assert list(out.glob("checkpoints/step-*20")) and not list(out.glob("checkpoint*.bin"))
    with monkeypatch.context() as patched:
        patched.setattr("mytnano.solo.ranks.free_for_each", lambda device, ranks: 1 << 16)
        with pytest.raises(UserError, match=r"predicted to take .*: go on with more ranks"):
            train_together(request, solo.Ways(), out, Console(quiet=True))
    words = ["--corpus", path, "--split", "tail:0.1", "--bytes", str(request.bytes), "--out", out]
    assert command(monkeypatch, *words, *train_toys.SMALL, "optimizer=muon") == 0
    said = capsys.readouterr().out
    assert "going on after step 20" in said and f"written to {out}" in said
    assert RunFolder(out).is_finished() and not (out / "checkpoints").exists()
    one, other = (RunFolder(run).result()["validation_bpb"] for run in (finished[0], out))
    assert one == pytest.approx(other, abs=1e-3)


def test_a_run_of_one_process_is_not_begun_again_by_ranks(path, tmp_path, interrupted):
    request, out = toy_request(path), tmp_path / "run"
    with interrupted():
        made(request, out)
    with pytest.raises(UserError, match=r"was begun by one process.* go on with it without torch"):
        train_together(request, solo.Ways(), out, Console(quiet=True))
    assert list(out.glob("checkpoint*.bin")) and not (out / "checkpoints").exists()
