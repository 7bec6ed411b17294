"""Names of what lies in a run folder and in a ladder's, one home for all who write or read one.

The manifest, which seals a folder, is named in :mod:`mytnano.files`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

RUNS = "runs"
"""Folder of the run folders in an output folder."""

CACHE = "cache"
"""Folder beside the run folders of one place, which share their tokenizers and token ids."""

RESULTS = "results.json"
"""The rows of a ladder's runs, with its budget, text and conditions."""

BASELINES = "baselines.json"
ATTENTION = "attention.json"
GROUP_RATES = "group_rates.json"
DECODE = "decode.json"
"""What a ladder measures beside its runs."""

MADE = "made"
"""In a row of ``results.json``: the conditions of a run that the last command did not make."""

PLAN = "plan.json"
"""What `mytnano train` was asked for, and the run that came of it."""

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


def origin(conditions: dict[str, Any]) -> tuple[Any, ...]:
    """What tells two conditions apart: hardware, PyTorch and commit, not the date alone."""
    return tuple(conditions.get(name) for name in ("hardware", "torch", "commit"))


def drop_checkpoints(folder: Path) -> None:
    """Delete what a finished run needs no more; a folder that cannot be written is left."""
    for name in DROPPED:
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)
