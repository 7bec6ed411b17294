"""scripts/gpu_check.py: what it asks of a GPU, asked of the CPU."""

import json
import math
import os

import gpu_check
import pytest

from mytnano.errors import UserError
from mytnano.training import engine

CPU = ["--device", "cpu", "--smoke", "--out"]


@pytest.mark.extras
@pytest.mark.skipif(not engine.can_compile(), reason="needs a C++ compiler")
def test_every_part_on_the_cpu(tmp_path):
    out = tmp_path / "gpu.json"
    assert gpu_check.main([*CPU, str(out)]) == 0
    found = json.loads(out.read_text())
    agree = found["agree"]
    assert agree["from_cpu"]["here"] == agree["stopped_from_whole"] == agree["again"] == 0
    assert 0 < agree["from_cpu"]["bf16"] < 0.01
    assert found["sharded"]["loss_gap"] < 1e-5
    assert all(abs(shape["ratio"] - 1) < 0.1 for shape in found["memory"]["shapes"].values())
    for name, graphs in (("eager", 0), ("compiled", 1), ("recompute", 1)):
        assert found[name]["tokens_per_second"] > 0 and found[name]["mfu"] is None
        assert found[name]["graphs"] == graphs, "all blocks share one"
    assert all(part["smoke"] and part["environment"]["device"] == "cpu" for part in found.values())


def test_what_is_not_compiled_does_not_pass_for_compiled(monkeypatch):
    monkeypatch.setattr(engine, "can_compile", lambda device: False)
    found = gpu_check.attempt("compiled", "cpu", True)
    assert "goes on uncompiled" in found["failed"] and "tokens_per_second" not in found


def test_a_part_that_fails_is_said_and_the_others_are_kept(tmp_path, monkeypatch):
    out = tmp_path / "gpu.json"
    out.write_text(json.dumps({"memory": {"shapes": {}}}))
    given = {"recompute": {"failed": "CUDA error"}, "agree": {"steps": 3}}
    monkeypatch.setattr(gpu_check, "apart", lambda name, *arguments: given[name])
    assert gpu_check.main([*CPU, str(out), "--parts", "recompute", "agree"]) == 1
    found = json.loads(out.read_text())
    assert found["memory"] == {"shapes": {}}
    for name, part in given.items():
        assert part.items() <= found[name].items() and found[name]["smoke"]
        assert found[name]["environment"]["device"] == "cpu"
    monkeypatch.undo()

    def fail(device, smoke):
        raise RuntimeError("CUDA error: out of memory\nand more")

    monkeypatch.setitem(gpu_check.PARTS, "agree", fail)
    assert "out of memory" in gpu_check.attempt("agree", "cpu", True)["failed"]


def test_curves_that_are_no_numbers_agree_with_nothing():
    assert gpu_check.gap([1.0, 2.0], [1.0, 2.5]) == 0.5
    for other in ([1.0, math.nan], [math.inf, 2.0], [1.0]):
        with pytest.raises(UserError, match="diverged"):
            gpu_check.gap([1.0, 2.0], other)


def die(*arguments):
    os._exit(1)


def test_a_process_that_dies_is_a_part_that_failed(monkeypatch):
    monkeypatch.setattr(gpu_check, "serve", die)
    assert "died" in gpu_check.apart("agree", "cpu", True)["failed"]


@pytest.mark.parametrize("content", ["[]", "{", '{"shapes": {}}'])
def test_another_file_is_left_alone(tmp_path, capsys, content):
    out = tmp_path / "gpu.json"
    out.write_text(content)
    assert gpu_check.main([*CPU, str(out)]) == 2
    assert "is no file of gpu_check: choose another --out" in capsys.readouterr().err
    assert out.read_text() == content


def test_without_a_gpu_it_says_what_to_give(tmp_path, capsys, monkeypatch):
    def none(device):
        raise UserError("no cuda device that PyTorch can use; try --device cpu")

    monkeypatch.setattr(gpu_check, "choose_device", none)
    assert gpu_check.main(["--out", str(tmp_path / "gpu.json")]) == 2
    assert "gpu_check: no cuda device" in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists()
