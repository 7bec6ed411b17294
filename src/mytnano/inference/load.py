"""A finished run from its folder alone: configuration, weights, tokenizer; all verified."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.files import MANIFEST, folder_condition
from mytnano.model.init import initialise
from mytnano.model.own import check_unchanged
from mytnano.model.transformer import Transformer
from mytnano.run_files import (
    CHECKPOINTS,
    CONFIG,
    PLAN,
    RESULT,
    RUNS,
    SHARED,
    TOKENIZER,
    WEIGHTS,
)
from mytnano.text.readers import existing_path
from mytnano.text.tokenizers import load_tokenizer
from mytnano.text.vocabulary import Tokenizer, padded

MOST_NAMES = 30

BEGUN = (PLAN, SHARED, *CHECKPOINTS)
"""What an unfinished run may have before it has a configuration."""


@dataclass(frozen=True)
class LoadedRun:
    """One finished run.

    Attributes:
        folder: the run folder.
        config: resolved, as trained.
        result: the content of ``result.json``.
        model: fp32 weights, in evaluation mode.
        tokenizer: its vocabulary; the model may have more ids (``data.vocab_multiple``), which are
            padding.
        hash: of the configuration, by the version that made the run.
    """

    folder: Path
    config: RunConfig
    result: dict[str, Any]
    model: Transformer
    tokenizer: Tokenizer
    hash: str

    @property
    def name(self) -> str:
        """For titles and file names."""
        return self.folder.resolve().name

    @property
    def caveat(self) -> str | None:
        """A sentence if it was made by a version whose numbers may differ from this one's."""
        if self.hash == self.config.hash:
            return None
        return (
            f"{self.name} was made by another version of mytnano, as {self.hash}, which is "
            f"{self.config.hash} here: scores and text may differ from that version's"
        )


def find_run(path: Path) -> Path:
    """The run folder that ``path`` is, finished or not, or the only one of an output folder.

    Raises:
        UserError: it is neither; the names are listed where there are several.
    """
    found = existing_path(str(path))
    if found is None or not found.is_dir():
        raise UserError(
            f"'{path}' is not a folder: give the folder of a run, such as "
            "out/ladder-quick/runs/NAME, or an output folder with one run"
        )
    path = found
    if (path / MANIFEST).exists() or (path / CONFIG).exists():
        return path
    folders = sorted(p.parent for p in (path / RUNS).glob(f"*/{MANIFEST}"))
    folders = [folder for folder in folders if ".damaged-" not in folder.name]
    if len(folders) == 1:
        return folders[0]
    if folders:
        names = ", ".join(folder.name for folder in folders[:MOST_NAMES])
        more = f" and {len(folders) - MOST_NAMES} more" if len(folders) > MOST_NAMES else ""
        raise UserError(
            f"'{path}' has {len(folders)} runs: give {path / RUNS}/NAME of {names}{more}"
        )
    if not (path / RUNS).exists() and any((path / name).exists() for name in BEGUN):
        return path  # of an interrupted `mytnano train`, which is refused as such
    raise UserError(
        f"'{path}' holds no finished run: give a folder that `mytnano ladder`, `mytnano ablate` or "
        "`mytnano train` wrote, after it has ended"
    )


def load_run(path: Path, device: str | None = None) -> LoadedRun:
    """Read a finished run, after every file has been held against its checksum.

    Args:
        path: see :func:`find_run`.
        device: where the model goes; None is the CPU.

    Raises:
        UserError: there is no finished run, it is damaged or of another kind, or a module of the
            user's that it was made with has changed.
    """
    folder = find_run(path)
    condition = folder_condition(folder, None, RESULT)
    if condition.state == "unfinished":
        raise UserError(
            f"the run in '{folder}' is unfinished (it has no {MANIFEST}): give the command that "
            "began it again, which continues it"
        )
    if condition.state == "damaged":
        raise UserError(f"the run in '{folder}' is damaged ({condition.reason}): repeat the run")
    try:
        config = RunConfig.model_validate_json((folder / CONFIG).read_bytes())
        result = json.loads((folder / RESULT).read_bytes())
        hash = json.loads((folder / MANIFEST).read_bytes())["hash"] or config.hash
    except (OSError, ValueError, pydantic.ValidationError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else error
        raise UserError(
            f"'{folder}' is not a run that this version of mytnano can read ({what}): use the "
            "version that made it, or repeat the run"
        ) from None
    check_unchanged(config.model)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    if padded(tokenizer.vocab_size, config.data.vocab_multiple) != config.model.vocab_size:
        raise UserError(
            f"the tokenizer in '{folder}' has {tokenizer.vocab_size} ids and the model "
            f"{config.model.vocab_size}: files of different runs are mixed; repeat the run"
        )
    model = load_model(config, folder).to(device or "cpu")
    return LoadedRun(folder, config, result, model, tokenizer, hash)


def load_model(config: RunConfig, folder: Path) -> Transformer:
    """A run's model with its fp32 weights, in evaluation mode, on the CPU.

    Raises:
        UserError: the weights are missing, or are not those of the configuration.
    """
    path = folder / WEIGHTS
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"'{path}' cannot be read ({error}): repeat the run") from None
    return model_of(config, weights, path)


def model_of(config: RunConfig, weights: dict[str, Tensor], path: Path) -> Transformer:
    """As :func:`load_model`, with the weights that were read from ``path``."""
    model = Transformer(config.model)
    if config.model.own_code:  # buffers of users' modules are not saved, but start the same again
        initialise(model, config.train.seed, config.train.salt)
    wanted = dict(model.named_parameters())
    strange = sorted(weights.keys() ^ wanted.keys()) or [
        name for name, parameter in wanted.items() if parameter.shape != weights[name].shape
    ]
    if strange:
        raise UserError(
            f"'{path}' is of another model than {CONFIG} says ({strange[0]} does not fit): repeat "
            "the run"
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(weights[name])
    return model.eval()
