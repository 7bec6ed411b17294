"""The tokenizers by name: build one from training text, or load a saved one."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mytnano.errors import UserError
from mytnano.text.vocabulary import DESCRIPTION, ByteTokenizer, CharTokenizer, Tokenizer

__all__ = ["ByteTokenizer", "CharTokenizer", "Tokenizer", "build_tokenizer", "load_tokenizer"]

KINDS = "char, byte, bpe:SIZE (such as bpe:2048), cl100k or cl100k-compact"


def build_tokenizer(spec: str, train: list[bytes], cache: Path) -> Tokenizer:
    """The tokenizer that ``spec`` names, fitted on the training documents where it needs to be.

    Args:
        spec: ``char``, ``byte``, ``bpe:SIZE``, ``cl100k`` or ``cl100k-compact``.
        train: documents of the training split, any bytes.
        cache: folder for what takes long to build; damaged files in it are rebuilt.

    Raises:
        UserError: an unknown name, a size that the text does not support, or damaged ranks.
    """
    if spec == "char":
        return CharTokenizer.train(train)
    if spec == "byte":
        return ByteTokenizer()
    if spec in ("cl100k", "cl100k-compact"):
        from mytnano.text.cl100k import Cl100kTokenizer, CompactTokenizer

        return Cl100kTokenizer() if spec == "cl100k" else CompactTokenizer.train(train, cache)
    if match := re.fullmatch(r"bpe:([0-9]{1,9})", spec):
        from mytnano.text.bpe import BpeTokenizer

        return BpeTokenizer.train(train, int(match[1]), cache)
    raise UserError(f"unknown tokenizer '{spec}': choose {KINDS}")


def load_tokenizer(folder: Path) -> Tokenizer:
    """A tokenizer that ``Tokenizer.save`` wrote, checked against its fingerprint.

    Raises:
        UserError: files are missing or damaged.
    """
    path = Path(folder) / DESCRIPTION
    try:
        content = json.loads(path.read_bytes())
        tokenizer = _restore(content, path.parent)
        intact = tokenizer.fingerprint == content["fingerprint"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"no tokenizer can be read from '{folder}' ({type(error).__name__}): "
            "delete the folder and repeat the run that wrote it"
        ) from None
    if not intact:
        raise UserError(
            f"the tokenizer in '{folder}' is damaged: delete the folder and repeat its run"
        )
    return tokenizer


def _restore(content: dict, folder: Path) -> Tokenizer:
    kind = content["name"].partition(":")[0]
    if kind == "char":
        return CharTokenizer(content["characters"])
    if kind == "byte":
        return ByteTokenizer()
    if kind == "bpe":
        from mytnano.text.bpe import HUGGINGFACE, BpeTokenizer

        return BpeTokenizer((folder / HUGGINGFACE).read_text(encoding="utf-8"))
    if kind not in ("cl100k", "cl100k-compact"):
        raise ValueError(f"unknown kind {kind!r}")
    from mytnano.text.cl100k import Cl100kTokenizer, CompactTokenizer

    return Cl100kTokenizer() if kind == "cl100k" else CompactTokenizer(content["ids"])
