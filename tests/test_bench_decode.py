"""The race between our cache and ``transformers.generate``: same text, every number there."""

import importlib.util
import json

import pytest
from run_toys import toy_folder

from mytnano.bench import decode
from mytnano.errors import UserError


def test_without_transformers_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"\.\[hf\]"):
        decode.run_decode_bench(tmp_path, 1, tmp_path / "x.json", 1)


@pytest.mark.extras
def test_both_write_the_same_text(tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    monkeypatch.setattr(decode, "BURST_SECONDS", 0.0)
    folder = toy_folder(tmp_path, "byte")
    result = decode.run_decode_bench(folder, 2, tmp_path / "out.json", 1)
    assert json.loads((tmp_path / "out.json").read_text())["run"] == "toy-s0"
    for batch, rows in zip(result["batches"], decode.BATCHES, strict=True):
        assert batch["rows"] == rows and batch["equal"] == 1
        assert (batch["prompt_tokens"], batch["new_tokens"]) == (12, 36)
        for entry in batch["contestants"]:
            assert len(entry["rounds"]) == 2 and entry["tokens_per_second"] > 0
        assert batch["contestants"][-1]["ratio_to_transformers"] == 1
    assert "transformers" in capsys.readouterr().out
