"""scripts/gpu_check.py: what it asks of a GPU, asked of the CPU."""

import json

import gpu_check
import pytest

from mytnano.errors import UserError

CPU = ["--device", "cpu", "--smoke", "--out"]


@pytest.mark.extras
def test_every_part_on_the_cpu(tmp_path):
    out = tmp_path / "gpu.json"
    assert gpu_check.main([*CPU, str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["agree"]["from_cpu"]["here"] == found["agree"]["stopped_from_whole"] == 0
    assert 0 < found["agree"]["from_cpu"]["bf16"] < 0.01
    assert found["sharded"]["loss_gap"] < 1e-5
    assert all(abs(shape["ratio"] - 1) < 0.1 for shape in found["memory"].values())
    eager = found["recipe"]["ways"]["eager"]
    assert eager["tokens_per_second"] > 0 and eager["mfu"] is None
    assert found["smoke"] is True and found["environment"]["device"] == "cpu"


def test_a_part_that_fails_is_said_and_the_others_are_kept(tmp_path, monkeypatch):
    def fail(device, smoke):
        raise RuntimeError("CUDA error: out of memory\nand more")

    out = tmp_path / "gpu.json"
    out.write_text(json.dumps({"memory": {"small": {}}}))
    monkeypatch.setitem(gpu_check.PARTS, "recipe", fail)
    monkeypatch.setitem(gpu_check.PARTS, "agree", lambda device, smoke: {"steps": 3})
    assert gpu_check.main([*CPU, str(out), "--parts", "recipe", "agree"]) == 1
    found = json.loads(out.read_text())
    assert "out of memory" in found["recipe"]["failed"]
    assert found["agree"] == {"steps": 3} and found["memory"] == {"small": {}}
    assert gpu_check.failed({"ways": {"eager": {}, "compiled": {"failed": "no room"}}})


def test_without_a_gpu_it_says_what_to_give(tmp_path, capsys, monkeypatch):
    def none(device):
        raise UserError("no cuda device that PyTorch can use; try --device cpu")

    monkeypatch.setattr(gpu_check, "choose_device", none)
    assert gpu_check.main(["--out", str(tmp_path / "gpu.json")]) == 2
    assert "gpu_check: no cuda device" in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists()
