"""The curve on other tools: what they get, and what happens when one is missing or fails."""

import sys
import types

import pytest

from mytnano.errors import UserError
from mytnano.training import recorders
from mytnano.training.recorders import KINDS, Guarded, open_recorder

POINT = {"step": 3, "train_loss": 2.5, "validation_bpb": None, "lr": 1e-3}
RESULT = {"test_bpb": 1.5, "params": 10, "status": "healthy"}


def record(kind, folder, step=0):
    said = []
    recorder = open_recorder(kind, folder, "toy-1", {"model": {"width": 8}}, step, said.append)
    recorder.point(POINT)
    recorder.point(POINT | {"step": 4, "validation_bpb": 2.0})
    recorder.sample(4, "The ", "people")
    recorder.close(RESULT)
    assert not said
    return folder


class FakeRun:
    def __init__(self, calls):
        self.calls, self.summary = calls, self

    def __getattr__(self, name):
        return lambda *args, **kw: self.calls.append((name, args, kw))


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_libraries_are_called_as_they_want_to_be(kind, tmp_path, monkeypatch):
    calls = []
    module = types.ModuleType(kind)
    run = FakeRun(calls)
    module.Api = lambda: types.SimpleNamespace(api_key=None)
    module.init = lambda **kw: calls.append(("init", (), kw)) or run
    module.log, module.finish = run.log, run.finish
    monkeypatch.setitem(sys.modules, kind, module)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    record(kind, tmp_path)
    names = [name for name, _, _ in calls]
    assert names[:3] == ["init", "log", "log"] and names[-1] == "finish"
    first = calls[0][2]
    assert first["name"] == "toy-1" and first["project"] == "mytnano"
    assert first["resume"] == "allow" and first["config"] == {"model": {"width": 8}}
    if kind == "wandb":
        assert first["mode"] == "offline"  # there is no key
    assert calls[1][1:] == (({"train_loss": 2.5, "lr": 1e-3},), {"step": 3})
    assert calls[2][1][0]["validation_bpb"] == 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_package_is_a_sentence_with_the_command(kind, tmp_path, monkeypatch):
    for name in (kind, "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf'--log {kind} needs .*pip install -e "\.\[{kind}\]"'):
        open_recorder(kind, tmp_path, "toy", {}, 0, print)


def test_one_that_cannot_start_is_a_sentence(tmp_path, monkeypatch):
    def broken(*args):
        raise OSError("no port")

    monkeypatch.setitem(recorders.KINDS, "wandb", broken)
    with pytest.raises(UserError, match=r"wandb cannot be started \(OSError: no port\)"):
        open_recorder("wandb", tmp_path, "toy", {}, 0, print)


def test_one_that_fails_is_dropped_and_said_once():
    said = []

    class Failing:
        def point(self, point):
            raise ConnectionError("gone")

        sample = close = point

    recorder = Guarded("wandb", Failing(), said.append)
    recorder.point(POINT)
    recorder.sample(1, "a", "b")
    recorder.close(None)
    assert said == ["wandb failed (ConnectionError: gone); the run goes on"]


@pytest.mark.extras
def test_tensorboard_reads_what_is_written(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record("tensorboard", tmp_path)
    record("tensorboard", tmp_path, step=2)  # killed, and gone on with after step 2
    events = EventAccumulator(str(tmp_path / recorders.LOGS))
    events.Reload()
    losses = events.Scalars("train_loss")
    assert [(e.step, e.value) for e in losses] == [(3, 2.5), (4, 2.5)]
    assert [e.step for e in events.Scalars("validation_bpb")] == [4]
    assert events.Scalars("final/test_bpb")[0].value == 1.5


@pytest.mark.extras
def test_wandb_works_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    record("wandb", tmp_path)
    assert list((tmp_path / recorders.LOGS / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.extras
def test_trackio_works_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="trackio needs other versions than the pinned ones")
    record("trackio", tmp_path)
    assert list((tmp_path / "trackio").glob("mytnano*"))
