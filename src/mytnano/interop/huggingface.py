"""``mytnano export --format hf``: a run as a folder that ``transformers`` loads."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from mytnano.errors import UserError
from mytnano.files import atomic_folder, atomic_write_bytes, atomic_write_json, atomic_write_text
from mytnano.inference.load import LoadedRun
from mytnano.interop.architectures import Target, find_target
from mytnano.interop.card import model_card
from mytnano.interop.tokenizer_json import library_tokenizer, tokenizer_config, why_none
from mytnano.run_files import CONFIG, TOKENIZER, WEIGHTS


def export_huggingface(run: LoadedRun, out: Path) -> list[str]:
    """Write config, weights, tokenizer, generation settings and model card into a new folder.

    Returns:
        Sentences to print.

    Raises:
        UserError: no standard architecture has the design, or the folder is in use.
    """
    target = find_target(run.config.model)
    if out.exists() and (not out.is_dir() or any(out.iterdir()) or out.samefile(".")):
        raise UserError(f"'{out}' is in use or not an empty folder: give a new one")
    notes = [f"exported as {target.class_name} of transformers to {out}"]
    weights = exported_weights(run, target)
    with atomic_folder(out) as folder:
        atomic_write_bytes(folder / WEIGHTS, save(weights, metadata={"format": "pt"}))
        if reason := why_none(run.tokenizer):
            run.tokenizer.save(folder / TOKENIZER)
            notes.append(f"without AutoTokenizer: {reason}")
        else:
            made = library_tokenizer(run.tokenizer, run.folder / TOKENIZER)
            atomic_write_text(folder / "tokenizer.json", made.to_str(pretty=True))
            config = tokenizer_config(run.config.model.context)
            atomic_write_json(folder / "tokenizer_config.json", config)
        atomic_write_json(folder / "generation_config.json", generation_config(run))
        atomic_write_text(folder / "README.md", model_card(run, target))
        atomic_write_json(folder / CONFIG, architecture_config(run, target))
    return notes


def exported_weights(run: LoadedRun, target: Target) -> dict[str, Tensor]:
    """Name -> fp32 tensor; none shares memory with another, as safetensors wants it."""
    with torch.no_grad():
        named = target.weights(run.model)
        return {
            name: weight.detach().float().cpu().clone(memory_format=torch.contiguous_format)
            for name, weight in named.items()
        }


def generation_config(run: LoadedRun) -> dict:
    """The content of ``generation_config.json``: padding of the vocabulary is never written."""
    eod = run.tokenizer.eod_id
    padding = list(range(run.tokenizer.vocab_size, run.config.model.vocab_size))
    quiet = {"suppress_tokens": padding} if padding else {}
    # Padding is named here and in the tokenizer, but not in config.json, where it would keep the
    # end-of-document's embedding from being trained further.
    return {"bos_token_id": eod, "eos_token_id": eod, "pad_token_id": eod, **quiet}


def architecture_config(run: LoadedRun, target: Target) -> dict:
    """The content of ``config.json``."""
    return {
        "architectures": [target.class_name],
        "model_type": target.model_type,
        "dtype": "float32",
        "torch_dtype": "float32",  # where versions before 5 look
        **target.settings(run.config.model, run.tokenizer.eod_id),
    }
