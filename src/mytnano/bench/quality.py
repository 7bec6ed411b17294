"""``mytnano bench --quality TEXT --nanogpt PATH``: how good a model is after how much time.

nanoGPT trains as its README says for a CPU (Karpathy 2022), on the first nine tenths of the text,
and we train on the same bytes for a given time. Both are then scored on the last tenth. The time is
that of the whole command, with its imports, its tokenizer, compilation from an empty cache and its
own measurements; contestants alternate, each with every core. nanoGPT is given the prepared text,
whose making is not in its time.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mytnano.bench.compare import find_nanogpt
from mytnano.bench.steps import nanogpt_module
from mytnano.environment import environment
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.run_files import CONFIG, RESULT

TAIL = 0.1
"""Share of the text, at its end, that is the test."""

CONTEXT = 64
README = [
    "--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1", "--block_size=64",
    "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000",
    "--lr_decay_iters=2000", "--dropout=0.0",
]  # fmt: skip
"""nanoGPT's README, "I only have a macbook", word for word."""

OURS = ("mytnano-modern", "--size", "nano")
MINUTE = 1.0
QUARTER = 0.25
"""Of nanoGPT's time: our second run is to reach nanoGPT's score in it. The third has all of it."""


def run_quality_bench(text: Path, nanogpt: Path | None, rounds: int, out: Path) -> dict[str, Any]:
    """Race to a score; print a table and write everything to ``out``.

    Args:
        text: one file. nanogpt: a checkout, complete with ``train.py``.

    Raises:
        UserError: no such file or checkout, or a contestant failed.
    """
    console = Console()
    model_file = find_nanogpt(nanogpt)
    if model_file is None or not (model_file.parent / "train.py").is_file():
        raise UserError("--quality needs --nanogpt: the folder of a checkout with its train.py")
    try:
        content = text.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {text}: {error.strerror}; give a text file") from None
    cut = len(content) - round(TAIL * len(content))
    entries: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "head.txt").write_bytes(content[:cut])
        (folder / "tail.txt").write_bytes(content[cut:])
        peer = prepare_nanogpt(model_file.parent, folder)
        for number in range(rounds):
            with console.status(f"round {number + 1} of {rounds}"):
                theirs = race_nanogpt(peer)
                entries.append({"who": "nanoGPT, README", **theirs})
                whole = theirs["seconds"] / 60
                lengths = {"minute": MINUTE, "quarter": QUARTER * whole, "as long": whole}
                for name, minutes in lengths.items():
                    run = race_ours(folder, folder / f"{number}-{name}", minutes)
                    entries.append({"who": f"mytNano, {name}", **run})
    result = {
        "environment": environment("cpu", entries[-1].pop("precision")),
        "text": {"name": text.name, "bytes": len(content), "test_bytes": len(content) - cut},
        "commands": {
            "nanoGPT": ["train.py", "config/train_shakespeare_char.py", *README],
            "mytNano": command(Path("HEAD"), Path("TAIL"), Path("RUN"), MINUTE),
        },
        "threads": os.cpu_count(),
        "rounds": rounds,
        "runs": [{key: run[key] for key in ("who", "seconds", "bpb")} for run in entries],
        "medians": medians(entries),
    }
    atomic_write_json(out, result)
    console.print(table(result["medians"]))
    return result


def prepare_nanogpt(checkout: Path, folder: Path) -> Path:
    """A copy of the checkout with the text as its ``shakespeare_char``: ids of characters."""
    copy = folder / "nanogpt"
    copy.mkdir()
    for name in ("train.py", "model.py", "configurator.py"):
        shutil.copy(checkout / name, copy / name)
    shutil.copytree(checkout / "config", copy / "config")
    data = copy / "data" / "shakespeare_char"
    data.mkdir(parents=True)
    parts = {
        "train.bin": (folder / "head.txt").read_bytes(),
        "val.bin": (folder / "tail.txt").read_bytes(),
    }
    symbols = {byte: id for id, byte in enumerate(sorted(set(b"".join(parts.values()))))}
    for name, part in parts.items():
        np.array([symbols[byte] for byte in part], dtype=np.uint16).tofile(data / name)
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": len(symbols)}))
    return copy


def race_nanogpt(copy: Path) -> dict[str, Any]:
    """Seconds of its training command, and the score of what it kept."""
    words = [sys.executable, "train.py", "config/train_shakespeare_char.py", *README]
    seconds = _timed(words, copy, {})
    return {"seconds": seconds, "bpb": nanogpt_bpb(copy)}


def nanogpt_bpb(copy: Path) -> float:
    """Bits per byte of the tail: all of it, in windows that do not overlap."""
    saved = torch.load(copy / "out-shakespeare-char" / "ckpt.pt", weights_only=True)
    module = nanogpt_module(copy / "model.py")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its size
        model = module.GPT(module.GPTConfig(**saved["model_args"]))
    model.load_state_dict(saved["model"])
    model.eval()
    ids = np.fromfile(copy / "data/shakespeare_char/val.bin", dtype=np.uint16).astype(np.int64)
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, CONTEXT):
            window = torch.from_numpy(ids[start : start + CONTEXT + 1])[None]  # (1, <= T + 1)
            _, loss = model(window[:, :-1], window[:, 1:])
            nats += float(loss) * (window.shape[1] - 1)
    return nats / (len(ids) - 1) / math.log(2)


def race_ours(folder: Path, out: Path, minutes: float) -> dict[str, Any]:
    """Seconds of `mytnano train` for so many minutes, and its score of the tail."""
    words = [sys.executable, "-m", "mytnano"]
    words += command(folder / "head.txt", folder / "tail.txt", out, minutes)
    with tempfile.TemporaryDirectory() as cold:
        seconds = _timed(words, folder, {"TORCHINDUCTOR_CACHE_DIR": cold})
    found = json.loads((out / RESULT).read_text())
    precision = json.loads((out / CONFIG).read_text())["train"]["precision"]
    return {"seconds": seconds, "bpb": found["test_bpb"], "precision": precision}


def command(head: Path, tail: Path, out: Path, minutes: float) -> list[str]:
    """Our command: validation, by which nothing is chosen here, is the last 2 % of the head."""
    words = ["train", *OURS, "--minutes", f"{minutes:.4f}", "--corpus", str(head)]
    return [*words, "--test-file", str(tail), "--split", "tail:0.02", "--out", str(out)]


def _timed(words: Sequence[str], folder: Path, more: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, **more}, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise UserError(f"'{' '.join(words[1:4])}' failed: {' '.join(last)}")
    return time.perf_counter() - began


def medians(entries: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Contestant -> median seconds and bits per byte."""
    names = dict.fromkeys(entry["who"] for entry in entries)
    return {
        name: {
            key: statistics.median(each[key] for each in entries if each["who"] == name)
            for key in ("seconds", "bpb")
        }
        for name in names
    }


def table(found: dict[str, dict[str, float]]) -> Table:
    """A row a contestant."""
    shown = Table(box=None, header_style="bold")
    for column in ("", "seconds, all in", "bits/byte"):
        shown.add_column(column, justify="left" if not column else "right")
    for name, entry in found.items():
        shown.add_row(name, f"{entry['seconds']:.1f}", f"{entry['bpb']:.3f}")
    return shown
