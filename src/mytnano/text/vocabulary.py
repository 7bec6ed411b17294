"""What every tokenizer is: byte strings, and a lossless way to spell any text with them."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mytnano.files import atomic_write_bytes

DESCRIPTION = "mytnano_tokenizer.json"
"""The file in a saved tokenizer's folder that ``load_tokenizer`` reads."""

# PEP 383: Python's "surrogateescape" maps the invalid byte 0x80+k to the code point U+DC80+k.
ESCAPE = 0xDC00
_INVALID = re.compile("[\udc80-\udcff]+")


class Tokenizer(ABC):
    """Bytes to ids and back; lossless for any bytes, invalid UTF-8 included.

    Attributes:
        name: the specification it was built from, such as ``bpe:2048``.
        vocab_size: number of ids, the end-of-document included.
        eod_id: the end-of-document id, always the last one; it stands for no bytes.
        byte_lengths: (vocab_size,) int64, bytes that each id stands for; 0 for ``eod_id``.
        fingerprint: sha256 hex over everything that determines the encoding.
        fast: encoding is about as fast as reading a cache, so caching it is pointless.
    """

    fast = False

    def __init__(self, name: str, tokens: list[bytes], rules: str = "") -> None:
        """Tokens without the end-of-document; ``rules`` is what else determines the encoding."""
        self.name = name
        self.vocab_size = len(tokens) + 1
        self.eod_id = len(tokens)
        self._tokens = [*tokens, b""]
        self.byte_lengths = np.array([len(token) for token in self._tokens], dtype=np.int64)
        identity = hashlib.sha256(f"{name}\n{rules}\n".encode())
        identity.update(self.byte_lengths.tobytes())
        identity.update(b"".join(tokens))
        self.fingerprint = identity.hexdigest()

    @abstractmethod
    def encode(self, text: bytes) -> np.ndarray:
        """Ids (n,) int32 of any bytes, without an end-of-document."""

    def encode_documents(self, documents: list[bytes]) -> list[np.ndarray]:
        """``encode`` of each document; a batch is faster where the library runs in threads."""
        return [self.encode(document) for document in documents]

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes of a sequence of ids; the end-of-document decodes to nothing.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
        if array.size and (array.min() < 0 or array.max() >= self.vocab_size):
            raise ValueError(f"ids must be in 0..{self.vocab_size - 1}")
        return b"".join(map(self._tokens.__getitem__, array.tolist()))

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one id; raises ValueError outside the vocabulary."""
        return self.decode([id])

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """JSON values from which ``load_tokenizer`` builds it again, beyond its name."""

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files; raises UserError where they cannot be written."""
        content = {
            "name": self.name,
            "vocab_size": self.vocab_size,
            "fingerprint": self.fingerprint,
            **self.description(),
        }
        atomic_write_bytes(Path(folder) / DESCRIPTION, json.dumps(content, indent=1).encode())


class ByteTokenizer(Tokenizer):
    """One id per byte: 256 and the end-of-document."""

    fast = True

    def __init__(self) -> None:
        super().__init__("byte", single_bytes())

    def encode(self, text: bytes) -> np.ndarray:
        return np.frombuffer(text, dtype=np.uint8).astype(np.int32)

    def description(self) -> dict[str, Any]:
        return {}


class CharTokenizer(Tokenizer):
    """One id per Unicode code point of the training text, then 256 bytes for everything else."""

    fast = True

    def __init__(self, characters: str) -> None:
        """``characters`` in id order, each once."""
        super().__init__("char", [c.encode() for c in characters] + single_bytes())
        self.characters = characters
        self._first_byte = len(characters)
        # The id of each code point; -1 is spelled in bytes. Escaped bytes map straight to theirs.
        self._table = np.full(0x110000, -1, dtype=np.int32)
        self._table[_code_points(characters)] = np.arange(len(characters))
        self._table[ESCAPE : ESCAPE + 256] = self._first_byte + np.arange(256)

    @classmethod
    def train(cls, documents: list[bytes]) -> CharTokenizer:
        """The characters that occur in valid UTF-8 of the documents, by code point."""
        seen = np.zeros(0x110000, dtype=bool)
        for document in documents:
            seen[_code_points(document.decode("utf-8", "surrogateescape"))] = True
        seen[0xD800:0xE000] = False
        return cls("".join(map(chr, np.flatnonzero(seen))))

    def encode(self, text: bytes) -> np.ndarray:
        points = _code_points(text.decode("utf-8", "surrogateescape"))
        ids = self._table[points]
        missing = ids < 0
        if not missing.any():
            return ids
        spelled = points[missing].tobytes().decode("utf-32-le").encode()
        fill = self._first_byte + np.frombuffer(spelled, dtype=np.uint8).astype(np.int32)
        unseen = points[missing]
        lengths = 1 + (unseen >= 0x80) + (unseen >= 0x800) + (unseen >= 0x10000)
        return spell_missing(ids, missing, lengths, fill)

    def description(self) -> dict[str, Any]:
        return {"characters": self.characters}


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def padded(size: int, multiple: int) -> int:
    """Ids of a model's tables for a vocabulary of ``size``, rounded up to a multiple.

    The ids from ``size`` on are padding: no text has them, and they stand for nothing.
    """
    return -(-size // multiple) * multiple


def single_bytes() -> list[bytes]:
    """The 256 one-byte strings in order."""
    return [bytes([value]) for value in range(256)]


def spell_missing(
    ids: np.ndarray, missing: np.ndarray, lengths: np.ndarray, fill: np.ndarray
) -> np.ndarray:
    """Replace the ids (n,) at ``missing`` (n,) bool by runs of byte ids.

    ``lengths`` (missing.sum(),) is the length of each run, ``fill`` (lengths.sum(),) all the runs.
    """
    counts = np.ones(len(ids), dtype=np.int64)
    counts[missing] = lengths
    spelled = np.repeat(missing, counts)  # (n + extra,)
    out = np.empty(len(spelled), dtype=np.int32)
    out[~spelled] = ids[~missing]
    out[spelled] = fill
    return out


def utf8_pieces(text: bytes) -> list[str | bytes]:
    """Valid UTF-8 as str, invalid sequences as bytes, in order; joined they are the text."""
    try:
        return [text.decode()]
    except UnicodeDecodeError:
        escaped = text.decode("utf-8", "surrogateescape")
    pieces: list[str | bytes] = []
    position = 0
    for match in _INVALID.finditer(escaped):
        if match.start() > position:
            pieces.append(escaped[position : match.start()])
        pieces.append(match.group().encode("utf-8", "surrogateescape"))
        position = match.end()
    if position < len(escaped):
        pieces.append(escaped[position:])
    return pieces


def encode_by_pieces(
    documents: list[bytes], encode_strings: Any, byte_ids: np.ndarray
) -> list[np.ndarray]:
    """Encode documents whose library takes only str, in one batch.

    Args:
        documents: any bytes.
        encode_strings: ``list[str] -> list[np.ndarray]``.
        byte_ids: (256,) int32, the id of each single byte.
    """
    pieces = [utf8_pieces(document) for document in documents]
    strings = iter(encode_strings([p for parts in pieces for p in parts if isinstance(p, str)]))
    encoded = []
    for parts in pieces:
        ids = [
            next(strings)
            if isinstance(part, str)
            else byte_ids[np.frombuffer(part, dtype=np.uint8)]
            for part in parts
        ]
        encoded.append(ids[0] if len(ids) == 1 else np.concatenate(ids).astype(np.int32))
    return encoded
