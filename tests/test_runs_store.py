import json
import sqlite3

import pytest

from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.run_files import CHECKPOINTS
from mytnano.runs import index, store
from mytnano.runs.index import INDEX, Index
from mytnano.runs.store import RunFolder, finished_runs


def make_run(out, name, config_hash="abc", **result) -> RunFolder:
    run = RunFolder(out / "runs" / name, config_hash)
    assert run.start() is None
    (run.path / "model.safetensors").write_bytes(b"weights")
    (run.path / "tokenizer").mkdir()
    (run.path / "tokenizer" / "vocab.json").write_text("{}")
    (run.path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    atomic_write_json(run.path / "config.json", {"width": 8})
    atomic_write_json(run.path / "result.json", {"rung": name, **result})
    run.finish()
    return run


def test_a_run_is_finished_when_its_manifest_is_there(tmp_path):
    run = RunFolder(tmp_path / "runs" / "a", "abc")
    assert run.condition().state == "unfinished"
    run.start()
    assert run.condition().state == "unfinished"
    (run.path / "half.bin").write_bytes(b"left by a kill")
    run.start()
    assert list(run.path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        run.finish()
    assert not run.is_finished()


def test_an_interrupted_run_keeps_its_checkpoint_and_nothing_else(tmp_path):
    run = RunFolder(tmp_path / "runs" / "a", "abc")
    run.start()
    for name in CHECKPOINTS:
        (run.path / name).write_bytes(b"state")
    (run.path / "tokenizer").mkdir()
    (run.path / "link").symlink_to(tmp_path, target_is_directory=True)
    run.start()
    assert {path.name for path in run.path.iterdir()} == set(CHECKPOINTS)
    assert tmp_path.exists()
    damaged = make_run(tmp_path, "b")
    (damaged.path / "checkpoint.bin").write_bytes(b"of a damaged run")
    rot(damaged, "result.json")
    damaged.start()
    assert list(damaged.path.iterdir()) == [], "a damaged run starts from nothing"


def test_checkpoints_stay_until_the_manifest_is_there(tmp_path, monkeypatch):
    run = make_run(tmp_path, "a")
    (run.path / "manifest.json").unlink()
    refused = "checkpoint-refused.bin"
    for name in (*CHECKPOINTS, refused, ".tmp-3f-half", "tokenizer/.tmp-3f-half"):
        (run.path / name).write_bytes(b"state")

    def killed(path, value):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "atomic_write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            run.finish()
    assert all((run.path / name).exists() for name in CHECKPOINTS)
    run.finish()
    assert not list(run.path.glob("checkpoint*")) and run.is_finished()
    files = json.loads((run.path / "manifest.json").read_text())["files"]
    assert not any("checkpoint" in name or ".tmp-" in name for name in files)


def test_a_finished_run_reads_back(tmp_path):
    run = make_run(tmp_path, "a", test_bpb=2.5)
    (run.path / "log.txt").write_text("not sealed")
    (run.path / "mine.txt").write_text("not listed")
    assert run.is_finished()
    assert run.result() == {"rung": "a", "test_bpb": 2.5}
    assert run.config() == {"width": 8}
    assert run.metrics() == [{"step": 1}, {"step": 2}]
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["hash"] == "abc"
    assert list(manifest["files"]) == sorted(
        ["config.json", "metrics.jsonl", "model.safetensors", "result.json", "tokenizer/vocab.json"]
    )
    with pytest.raises(ValueError, match="finished"):
        run.start()


def test_only_named_files_are_sealed_if_names_are_given(tmp_path):
    run = make_run(tmp_path, "a")
    (run.path / "manifest.json").unlink()
    run.finish(["config.json"])
    files = json.loads((run.path / "manifest.json").read_text())["files"]
    assert sorted(files) == ["config.json", "result.json"]


def rot(run, name):
    path = run.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(run, **changes):
    path = run.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGE = {
    "a flipped bit": (lambda run: rot(run, "model.safetensors"), "does not match its checksum"),
    "a flipped bit, deeper": (lambda run: rot(run, "tokenizer/vocab.json"), "does not match"),
    "a missing file": (lambda run: (run.path / "result.json").unlink(), "is missing"),
    "a truncated manifest": (
        lambda run: (run.path / "manifest.json").write_text('{"files": {'),
        "manifest.json is unreadable",
    ),
    "an empty manifest": (lambda run: (run.path / "manifest.json").write_text(""), "unreadable"),
    "another manifest": (lambda run: (run.path / "manifest.json").write_text("[1]"), "unreadable"),
    "a binary manifest": (
        lambda run: (run.path / "manifest.json").write_bytes(b"\xff\xfe"),
        "unreadable",
    ),
    "another hash": (lambda run: rewrite(run, hash="other"), "of another configuration"),
    "nothing listed": (lambda run: rewrite(run, files={}), "does not list result.json"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_moved_aside(tmp_path, kind):
    harm, reason = DAMAGE[kind]
    for number in (1, 2):
        run = make_run(tmp_path, "a")
        harm(run)
        assert run.condition().state == "damaged"
        note = run.start()
        assert reason in note and note.startswith("a is damaged (")
        assert f"moved to a.damaged-{number}, and the run is repeated" in note
        assert (run.path.parent / f"a.damaged-{number}" / "model.safetensors").exists()
        assert list(run.path.iterdir()) == []
        run.path.rmdir()
    assert finished_runs(tmp_path) == ([], [])


def test_finished_runs_are_listed_without_the_rest(tmp_path):
    assert finished_runs(tmp_path / "nothing") == ([], [])
    make_run(tmp_path, "b")
    make_run(tmp_path, "a")
    rot(make_run(tmp_path, "c"), "result.json")
    RunFolder(tmp_path / "runs" / "d", "abc").start()
    (tmp_path / "runs" / "file").touch()
    runs, damaged = finished_runs(tmp_path)
    assert [run.path.name for run in runs] == ["a", "b"]
    assert damaged == [(tmp_path / "runs" / "c", "result.json does not match its checksum")]
    runs, damaged = finished_runs(tmp_path, without={"a", "c"})
    assert [run.path.name for run in runs] == ["b"] and damaged == []
    assert (tmp_path / "runs" / "c" / "manifest.json").exists(), "reading moves nothing"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(UserError, match="choose a folder that can be written"):
        RunFolder(tmp_path / "runs" / "a", "abc").start()


@pytest.fixture
def out(tmp_path):
    make_run(tmp_path, "b", test_bpb=2.5, comparable=True, flops=2**70, mechanism=[1], sample="é")
    make_run(tmp_path, "a", test_bpb=None, extra="it's", **{'odd "name"': 1})
    return tmp_path


ROWS = [
    {
        "folder": "a",
        "rung": "a",
        "test_bpb": None,
        "extra": "it's",
        'odd "name"': 1,
        "comparable": None,
        "flops": None,
        "sample": None,
    },
    {
        "folder": "b",
        "rung": "b",
        "test_bpb": 2.5,
        "extra": None,
        'odd "name"': None,
        "comparable": 1,
        "flops": float(2**70),
        "sample": "é",
    },
]


def count_rebuilds(monkeypatch) -> list:
    calls = []
    real = store.finished_runs
    monkeypatch.setattr(index, "finished_runs", lambda out: calls.append(out) or real(out))
    return calls


def test_index_has_a_row_a_run_and_is_used_again(out, monkeypatch):
    rebuilds = count_rebuilds(monkeypatch)
    assert Index(out).rows() == ROWS
    assert Index(out).rows() == ROWS
    assert len(rebuilds) == 1
    with sqlite3.connect(out / INDEX) as database:
        assert database.execute("SELECT rung FROM runs WHERE test_bpb < 3").fetchall() == [("b",)]


def test_index_of_no_runs(tmp_path):
    assert Index(tmp_path).rows() == []
    assert Index(tmp_path).rows() == []


def edit(out, statement):
    with sqlite3.connect(out / INDEX) as database:
        database.execute(statement)
    database.close()


INDEX_DAMAGE = {
    "deleted": lambda out: (out / INDEX).unlink(),
    "empty": lambda out: (out / INDEX).write_bytes(b""),
    "garbage": lambda out: (out / INDEX).write_bytes(b"\x00garbage" * 1000),
    "truncated": lambda out: (out / INDEX).write_bytes((out / INDEX).read_bytes()[:3000]),
    "edited": lambda out: edit(out, "UPDATE runs SET test_bpb = 0.1 WHERE folder = 'b'"),
    "row lost": lambda out: edit(out, "DELETE FROM runs WHERE folder = 'b'"),
    "other format": lambda out: edit(out, "UPDATE about SET format = 'mytnano-index-0'"),
    "foreign": lambda out: edit(out, "DROP TABLE about"),
    "foreign journal": lambda out: (
        (out / INDEX).unlink(),
        (out / f"{INDEX}-journal").write_bytes(b"\xd9\xd5\x05\xf9 \xa1c\xd7" * 200),
    ),
}


@pytest.mark.parametrize("kind", INDEX_DAMAGE)
def test_a_damaged_index_is_rebuilt(out, monkeypatch, kind):
    Index(out).rows()
    INDEX_DAMAGE[kind](out)
    rebuilds = count_rebuilds(monkeypatch)
    assert Index(out).rows() == ROWS
    assert len(rebuilds) == 1
    assert Index(out).rows() == ROWS
    assert len(rebuilds) == 1


def test_a_stale_index_is_rebuilt(out):
    Index(out).rows()
    make_run(out, "c")
    assert [row["folder"] for row in Index(out).rows()] == ["a", "b", "c"]
    rot(RunFolder(out / "runs" / "b"), "model.safetensors")
    assert [row["folder"] for row in Index(out).rows()] == ["a", "c"]


def test_what_was_checked_is_not_read_again_for_the_index(out, monkeypatch):
    rebuilds = count_rebuilds(monkeypatch)
    Index(out).refresh([RunFolder(out / "runs" / name) for name in ("a", "b")])
    assert Index(out).rows() == ROWS and rebuilds == []


def test_an_index_in_a_folder_of_its_name_is_one_sentence(tmp_path):
    (tmp_path / INDEX).mkdir()
    with pytest.raises(UserError, match="cannot write"):
        Index(tmp_path).rows()
