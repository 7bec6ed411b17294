"""What ``mytnano shard`` shows: progress while shards are made, and a sentence about the result."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mytnano.terminal import tell
from mytnano.text import shard_build
from mytnano.text.shards import PREFIX, SPLITS, Manifest


def make(request: shard_build.Request, workers: int, console: Console) -> Manifest:
    """Make the shards with a display; arguments and errors as of ``build_shards``."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        TextColumn("shards"),
        TimeElapsedColumn(),
    )
    began, made, reused = time.monotonic(), 0, 0  # seconds, bytes of text, shards
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("reading the text", total=None)

        def hear(progress: shard_build.Progress) -> None:
            nonlocal made, reused
            made += 0 if progress.reused else progress.shard.bytes
            reused += progress.reused
            speed = made / max(time.monotonic() - began, 1e-9) / 1e6
            shown.update(
                task,
                advance=1,
                description=f"{progress.tokens:,} tokens of {progress.bytes / 1e6:,.0f} MB, "
                f"{speed:.1f} MB/s",
            )

        manifest = shard_build.build_shards(request, workers, hear)
    if reused:
        tell(console, f"{reused} shards were finished already")
    describe(request.out, manifest, console)
    return manifest


def check(out: Path, console: Console) -> None:
    """Read all of a shard folder again; UserError with the first file that is damaged."""
    with console.status("reading every shard"):
        manifest = shard_build.verify_shards(out)
    describe(out, manifest, console)
    tell(console, "every file is as it was written")


def describe(out: Path, manifest: Manifest, console: Console) -> None:
    """Notes, counts, and how to train on it."""
    for note in manifest.notes:
        tell(console, f"{manifest.corpus}: {note}")
    for split in SPLITS:
        tokens, size, documents = (
            manifest.total(split, what) for what in ("tokens", "bytes", "documents")
        )
        tell(
            console,
            f"{split}: {tokens:,} tokens in {manifest.tokenizer}, {size:,} bytes of text, "
            f"{documents:,} documents, {len(manifest.shards[split])} shards",
        )
    tell(
        console, f"train on it with --corpus {PREFIX}{out}, in the vocabulary {manifest.tokenizer}"
    )
