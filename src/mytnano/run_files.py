"""Names of what lies in a run folder, one home for all who write or read one.

The manifest, which seals a folder, is named in :mod:`mytnano.files`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

RUNS = "runs"
"""Folder of the run folders in an output folder."""

CONFIG = "config.json"
"""The resolved configuration."""

RESULT = "result.json"
"""What a finished run scored, and what it cost."""

WEIGHTS = "model.safetensors"
"""The fp32 weights."""

METRICS = "metrics.jsonl"
"""The curve: what was measured on the way, a JSON object a line."""

SAMPLES = "samples.jsonl"
"""What the model wrote on its way, a line each: step, prompt, text."""

TOKENIZER = "tokenizer"
"""Folder of the tokenizer, so that the run folder alone can be sampled and exported."""

LOG = "log.txt"
"""What a worker process printed."""

ERROR = "error.txt"
"""The traceback of a run that failed."""

CHECKPOINT = "checkpoint.bin"
"""The newest state of an unfinished run."""

PREVIOUS = "checkpoint-previous.bin"
"""The state before that, for when the newest is damaged."""

REFUSED = "checkpoint-refused.bin"
"""The last state that was not trusted."""

CHECKPOINTS = (CHECKPOINT, PREVIOUS)
"""What an interrupted run goes on from."""

DROPPED = (*CHECKPOINTS, REFUSED)
"""What a finished run needs no more."""

SHARED = "checkpoints"
"""Folder of the states that ranks write together; see :mod:`mytnano.distributed.checkpoint`."""


def drop_checkpoints(folder: Path) -> None:
    """Delete what a finished run needs no more; a folder that cannot be written is left."""
    for name in DROPPED:
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)
