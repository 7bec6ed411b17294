"""How fast batches come from shards, and that memory stays flat however large the set is.

    python scripts/loader_bench.py --gigabytes 10 --out out/loader.json

writes a synthetic set (one random shard of ids, copied), reads global batches from it and counts
their tokens and bytes of text after each step as a training run does, and prints tokens/s and how
much the process's resident memory grew over the reading.
Not timed: writing the set, and checking its checksums. The set is in the system's cache as far as
memory allows, as it has just been written. `scripts/publish.py scale FILE` publishes the result.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from mytnano.environment import environment
from mytnano.files import atomic_write_json
from mytnano.text.batches import Windows, tokens_per_window
from mytnano.text.shards import BLOCK, Manifest, Shard, ShardStream
from mytnano.text.vocabulary import single_bytes

GOAL = 1_000_000
"""Tokens/s that the loader should give: more than any single device trains on here."""

VOCABULARY = 50_000
MAPPED = 1 << 16
"""Bytes that Linux maps around each place that is read, if they are in its cache."""

DOCUMENT = 1000
"""Tokens of a document."""


def lengths() -> np.ndarray:
    """Bytes of each id (V,): one to eight, the end-of-document none."""
    drawn = np.random.default_rng(0).integers(1, 9, VOCABULARY)
    drawn[: len(single_bytes())] = 1
    drawn[-1] = 0
    return drawn.astype(np.int64)


def write_set(folder: Path, size: int, shard_tokens: int) -> Manifest:
    """A training split of about ``size`` bytes of ids on disk."""
    byte_lengths = lengths()
    ids = np.random.default_rng(1).integers(0, VOCABULARY - 1, shard_tokens)
    ids[::DOCUMENT] = VOCABULARY - 1
    taken = byte_lengths[ids]
    starts = np.cumsum(taken) - taken
    index = np.concatenate((starts[::BLOCK], np.arange(0, shard_tokens, DOCUMENT))).astype("<u4")
    first = Shard(
        "train-00000", shard_tokens, -(-shard_tokens // DOCUMENT), int(taken.sum()), "", "", ""
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train-00000.bin").write_bytes(ids.astype("<u2").tobytes())
    (folder / "train-00000.idx").write_bytes(index.tobytes())
    count = max(1, round(size / (2 * shard_tokens)))
    shards = [replace(first, name=f"train-{number:05}") for number in range(count)]
    for shard in shards[1:]:
        for kind in ("bin", "idx"):
            shutil.copyfile(folder / f"train-00000.{kind}", folder / f"{shard.name}.{kind}")
    return Manifest("synthetic", [], "documents", "synthetic", "", VOCABULARY,
                    {"train": shards, "validation": [], "test": []})  # fmt: skip


def measure(folder: Path, manifest: Manifest, context: int, batch: int, seconds: float) -> dict:
    """Tokens/s of batches for about ``seconds``, and the growth of resident memory meanwhile."""
    stream = ShardStream(folder, manifest, "train", lengths())
    window = round(context * stream.byte_count / len(stream.ids))
    windows = Windows(stream, window, tokens_per_window(stream, window), batch, seed=0)
    process = psutil.Process()
    windows.batch(0)
    windows.tokens_and_bytes(1)
    before = largest = process.memory_info().rss
    steps, started, busy = 0, time.perf_counter(), 0.0
    set_bytes = sum(f.stat().st_size for f in folder.glob("train-*.*"))
    enough = 3 * set_bytes / MAPPED / batch  # places that, mapped and kept, would cover the set
    while time.perf_counter() - started < seconds or steps < enough:
        begun = time.perf_counter()
        windows.batch(1 + steps)
        windows.tokens_and_bytes(2 + steps)
        busy += time.perf_counter() - begun
        steps += 1
        if steps % 20 == 0:
            largest = max(largest, process.memory_info().rss)
    tokens = steps * batch * windows.context
    return {
        "tokens_per_second": tokens / busy,
        "goal": GOAL,
        "context": windows.context,
        "batch_windows": batch,
        "steps": steps,
        "set_bytes": set_bytes,
        "set_tokens": len(stream.ids),
        "shards": len(manifest.shards["train"]),
        "keyed_order": windows.per_epoch > 1 << 20,
        "mapped_bytes": steps * batch * MAPPED,
        "resident_bytes": before,
        "resident_growth_bytes": largest - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to write the set; default: temporary")
    parser.add_argument("--gigabytes", type=float, default=10.0, help="of ids on disk")
    parser.add_argument("--context", type=int, default=1024, help="tokens of a window")
    parser.add_argument("--batch", type=int, default=64, help="windows of a batch")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path, help="result file")
    chosen = parser.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="mytnano-shards-"))
    try:
        size = round(chosen.gigabytes * 1e9)
        manifest = write_set(folder, size, min(32 << 20, max(1 << 20, size // 16)))
        result = measure(folder, manifest, chosen.context, chosen.batch, chosen.seconds)
    finally:
        if chosen.folder is None:
            shutil.rmtree(folder)
    if chosen.out:
        conditions = environment("cpu", "fp32") | {"load": os.getloadavg()[0]}
        atomic_write_json(chosen.out, {"environment": conditions, **result})
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
