"""What a ladder measures besides its runs: cost of attention, closed forms, and the machine."""

import json
import shutil
import subprocess

import psutil
import pytest
import torch
from ladder_toys import write_text

from mytnano import environment
from mytnano.config import DataConfig
from mytnano.designs.budgets import BUDGETS
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.kept import kept
from mytnano.ladder import attention_cost, closed_form
from mytnano.ladder.attention_cost import HEADS, KERNELS, causal_mask, difference, draw, peak_bytes
from mytnano.ladder.cells import Where
from mytnano.run_files import BASELINES


def peak(name, T):
    return peak_bytes(KERNELS[name], [*draw(1, T, "cpu"), causal_mask(T, "cpu")])


def test_explicit_attention_holds_its_matrix_and_flash_does_not():
    T = 1024
    matrix = 4 * HEADS * T * T
    assert peak("explicit", T) >= 2 * matrix, "the weights, and a gradient of their size"
    assert peak("flash", T) < matrix
    assert peak("explicit", 2 * T) > 3.5 * peak("explicit", T)
    assert peak("flash", 2 * T) < 2.5 * peak("flash", T)


def test_memory_that_was_freed_before_changes_nothing():
    before = {name: peak(name, 256) for name in KERNELS}
    assert min(before.values()) > 0
    waste = [torch.ones(1 << 20) for _ in range(50)]
    del waste
    assert {name: peak(name, 256) for name in KERNELS} == before


@pytest.mark.parametrize("T", [33, 128, 600])
def test_kernels_agree(T):
    assert difference(T, "cpu") < 1e-5


def test_a_measurement_says_under_which_conditions(monkeypatch):
    monkeypatch.setattr(attention_cost, "TOKENS", 128)
    found = attention_cost.measure("cpu", (32, 64))
    assert [(row["kernel"], row["T"]) for row in found["rows"]] == [
        ("explicit", 32), ("flash", 32), ("explicit", 64), ("flash", 64)
    ]  # fmt: skip
    assert all(row["seconds"] > 0 and row["peak_bytes"] > 0 for row in found["rows"])
    assert found["threads"] == torch.get_num_threads() and found["tokens"] == 128
    assert found["max_abs_difference"] < 1e-5


def test_closed_forms_are_fitted_on_what_the_runs_saw_and_on_everything(tmp_path):
    text = write_text(tmp_path / "farm.txt", 60_000)
    where = Where(DataConfig(corpus=str(text)), tmp_path / "out", "fp32", "cpu")
    found = closed_form.baselines(where, BUDGETS["smoke"], [0])
    bpb = {key: {row["name"]: row["bpb"] for row in found[key]} for key in ("budget", "full")}
    for scores in bpb.values():
        assert scores["kneser-ney-5"] < scores["bigram"] < scores["unigram"] < scores["uniform"]
        assert set(scores) == set(closed_form.QUICK_NAMES)
    assert bpb["full"]["kneser-ney-5"] < bpb["budget"]["kneser-ney-5"], "more text, more to know"
    labels = {key: {row["detail"]["label"] for row in found[key]} for key in bpb}
    assert labels == {"budget": {"seen"}, "full": {"full"}}
    # Both are byte and character bigrams of plain ASCII on the same windows.
    (counted,) = found["char_bigrams"]
    assert counted["bpb"] == pytest.approx(bpb["budget"]["bigram"], abs=0.05)
    more = closed_form.baselines(where, BUDGETS["smoke"], [0, 3])
    assert more["budget"] == found["budget"] and more["char_bigrams"][0] == counted
    assert more["char_bigrams"][1]["seed"] == 3 and more["char_bigrams"][1]["bpb"] != counted["bpb"]
    before = (where.out / BASELINES).read_bytes()
    assert closed_form.baselines(where, BUDGETS["smoke"], [3]) == more
    assert (where.out / BASELINES).read_bytes() == before


def test_kept_values_are_measured_once_for_the_same_conditions(tmp_path):
    path, calls = tmp_path / "it.json", []

    def measure():
        calls.append(1)
        return {"bpb": len(calls) + 0.5, "nothing": float("nan")}

    first = kept(path, ["a", 1], measure)
    assert first == {"bpb": 1.5, "nothing": None}
    assert kept(path, ["a", 1], measure) == first and len(calls) == 1
    assert kept(path, ["a", 2], measure)["bpb"] == 2.5
    atomic_write_json(path, json.loads(path.read_text()) | {"bpb": 9.5})
    assert kept(path, ["a", 2], measure)["bpb"] == 3.5
    for garbage in (b"", b"[]", b'"checksum"', b"\xff", b"[" * 100_000):
        path.write_bytes(garbage)
        assert kept(path, ["a", 2], measure)["bpb"] == len(calls) + 0.5


def test_devices(monkeypatch):
    assert environment.choose_device("cpu") == "cpu"
    with pytest.raises(UserError, match="'tpu' is not a device; choose from auto, "):
        environment.choose_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert environment.choose_device("auto") == "cpu"
    with pytest.raises(UserError, match="no cuda device that PyTorch can use; try --device cpu"):
        environment.choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert environment.choose_device("auto") == "cuda"


def test_one_worker_a_core_as_far_as_memory_goes(monkeypatch):
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    memory = lambda size: type("Memory", (), {"available": size})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(1 << 40))
    assert environment.count_workers(None, "cpu") == 8
    assert environment.count_workers(None, "cuda") == 0
    assert environment.count_workers(3, "cuda") == 3
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(4 << 30))
    assert environment.count_workers(None, "cpu") == 2
    assert environment.count_workers(None, "cpu", text=100 << 20) == 1  # 1.3 GiB more each
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(1 << 20))
    assert environment.count_workers(None, "cpu") == 1


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_of_our_own_source_or_none(tmp_path, monkeypatch):
    package = tmp_path / "mytnano" / "ladder"
    package.mkdir(parents=True)
    copy = package / "environment.py"
    shutil.copy(environment.__file__, copy)
    (tmp_path / "mytnano" / "__init__.py").touch()
    monkeypatch.setattr(environment, "__file__", str(copy))
    monkeypatch.setattr(environment.mytnano, "__file__", str(tmp_path / "mytnano/__init__.py"))
    assert environment.commit() is None, "no repository"

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "another project")
    assert environment.commit() is None, "a repository that does not hold us"
    git("add", ".")
    git("commit", "-q", "-m", "ours")
    commit = environment.commit()
    assert len(commit) == 12 and int(commit, 16) >= 0
    (tmp_path / "mytnano" / "new.py").touch()
    assert environment.commit() == f"{commit}+"
