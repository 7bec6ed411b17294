"""scripts/whole_recipe.py: steps of a recipe at its full size, here of the small one."""

import json
import math

import whole_recipe

from mytnano.measure.memory_plan import count_weights


def test_steps_of_the_small_recipe(tmp_path):
    out = tmp_path / "out.json"
    assert whole_recipe.main(["--smoke", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    config = whole_recipe.config_of(True, tmp_path)
    assert found["parameters"] == count_weights(config.model).total == 334_752
    losses = found["losses"]
    assert len(losses) == whole_recipe.STEPS + 1
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] < math.log(384) + 0.1
    assert found["smoke"] and found["planned"] > 0 and found["measured"] > 0


def test_too_little_memory_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(whole_recipe.memory, "free_bytes", lambda device: 1 << 20)
    assert whole_recipe.main(["--smoke", "--out", str(tmp_path / "out.json")]) == 2
    assert "GiB are needed and 0.0 GiB are free" in capsys.readouterr().err
    assert (tmp_path / "out.json").read_text().strip() == "{}"


def test_what_cannot_be_written_is_said_first(tmp_path, monkeypatch, capsys):
    monkeypatch.delattr(whole_recipe, "measure")
    (tmp_path / "file").touch()
    assert whole_recipe.main(["--smoke", "--out", str(tmp_path / "file" / "out.json")]) == 2
    assert "cannot write" in capsys.readouterr().err
