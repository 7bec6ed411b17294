"""The speed of tokenizers: every task is timed, and of the text that is named."""

import json

from mytnano.bench import tokenizer_speed
from mytnano.config import DataConfig


def test_every_task_is_timed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tokenizer_speed, "SIZES", (300,))
    text = tmp_path / "text.txt"
    text.write_text(
        "".join(f"{n} bottles on the wall, and {n * n} below.\n\n" for n in range(3000))
    )
    out = tmp_path / "out.json"
    result = tokenizer_speed.run_tokenizer_bench(2, out, DataConfig(corpus=str(text)))
    assert json.loads(out.read_text()) == result
    speeds = result["megabytes_per_second"]
    encoders = ("byte", "char", "bpe:300", "cl100k")
    assert list(speeds) == ["train bpe:300", *(f"encode {name}" for name in encoders)]
    assert all(0 < speed < 1e5 for speed in speeds.values())
    assert 0.7 < result["bytes"] / text.stat().st_size < 0.9
    assert "encode cl100k" in capsys.readouterr().out
