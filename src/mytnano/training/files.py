"""The files that a finished run leaves."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from mytnano.config import RunConfig
from mytnano.files import atomic_write_bytes, atomic_write_json, atomic_write_text, json_text
from mytnano.run_files import (
    CONFIG,
    METRICS,
    RESULT,
    SAMPLES,
    TOKENIZER,
    WEIGHTS,
)
from mytnano.text.tokenizers import Tokenizer
from mytnano.training.engine import Engine


def write_run(
    folder: Path,
    config: RunConfig,
    engine: Engine,
    tokenizer: Tokenizer,
    history: dict,
    result: dict,
) -> None:
    """Write weights, curve, samples, tokenizer, config and result.

    The checkpoints stay: until the folder is sealed a kill would otherwise lose the whole run.
    Whoever seals it drops them.

    Raises:
        UserError: the disk is full.
    """
    weights = {name: p.detach().cpu().contiguous() for name, p in engine.masters.items()}
    atomic_write_bytes(folder / WEIGHTS, save(weights, metadata={"config_hash": config.hash}))
    write_curve(folder, history)
    tokenizer.save(folder / TOKENIZER)
    atomic_write_json(folder / CONFIG, config.model_dump())
    atomic_write_json(folder / RESULT, result)


def write_curve(folder: Path, history: dict) -> None:
    """Write what was measured so far, and the samples if there are any, a JSON object a line."""
    for name, rows in ((METRICS, history["points"]), (SAMPLES, history.get("samples"))):
        if rows is not None:
            atomic_write_text(folder / name, "".join(json_text(row) + "\n" for row in rows))
