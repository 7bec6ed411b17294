"""A byte-level BPE trained on the corpus by Hugging Face ``tokenizers``, and run by ``tiktoken``.

The alphabet and the pre-tokenizer are GPT-2's (Radford et al. 2019), so the files that ``save``
writes are read by any tool that knows GPT-2's tokenizer. tiktoken gives the same ids several times
as fast as the library that trained them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders as hf_decoders
from tokenizers import models, pre_tokenizers, trainers

from mytnano.errors import UserError
from mytnano.files import atomic_write_bytes
from mytnano.text.cache import digest, read_cache, write_cache
from mytnano.text.ranks import RankEncoder
from mytnano.text.vocabulary import Tokenizer, encode_by_pieces, utf8_pieces

HUGGINGFACE = "tokenizer.json"
END_OF_DOCUMENT = "<|endoftext|>"
TRAINING_BYTES = 16_000_000
"""Merges settle long before this; more text would only take longer."""

SMALLEST = 257

PATTERN = (  # GPT-2's, in encoder.py
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)


class VocabularyTooLarge(UserError):
    """More tokens were asked for than the text has pairs to make.

    Attributes:
        largest: what it supports. smaller: the largest power of two within that.
    """

    def __init__(self, size: int, largest: int) -> None:
        super().__init__(
            f"bpe:{size} is larger than the text supports: "
            f"at most bpe:{largest} can be trained on it"
        )
        self.largest = largest
        self.smaller = 1 << (largest.bit_length() - 1)


class BpeTokenizer(Tokenizer):
    """``bpe:SIZE``: 256 bytes, SIZE - 257 merges, and the end-of-document."""

    def __init__(self, definition: str) -> None:
        """From the text of a ``tokenizer.json``; ValueError or KeyError if it is not one of ours.

        Special tokens in it are ignored.
        They must be, for a document may spell ``<|endoftext|>``, and that is then just text.
        """
        content = json.loads(definition)
        content["added_tokens"] = []
        definition = json.dumps(content, sort_keys=True)
        try:
            self._library = tokenizers.Tokenizer.from_str(definition)
        except Exception as error:  # the library raises no narrower class
            raise ValueError(f"not a tokenizer.json: {error}") from None
        vocabulary = self._library.get_vocab()
        made = [vocabulary["".join(pair)] for pair in content["model"]["merges"]]
        if made != list(range(256, len(vocabulary))):
            raise ValueError("its merges are not in the order of their ids")
        to_byte = {character: value for value, character in enumerate(byte_characters())}
        tokens: list[bytes] = [b""] * len(vocabulary)
        for token, id in vocabulary.items():
            tokens[id] = bytes(to_byte[character] for character in token)
        rules = json.dumps([content["pre_tokenizer"], content["model"]["merges"]], sort_keys=True)
        super().__init__(f"bpe:{len(tokens) + 1}", tokens, rules)
        self._encode_strings = RankEncoder(self.name, PATTERN, tokens)
        self._byte_ids = np.array([vocabulary[c] for c in byte_characters()], dtype=np.int32)

    @classmethod
    def train(cls, documents: list[bytes], size: int, cache: Path) -> BpeTokenizer:
        """Train ``size`` tokens, or take them from the cache.

        Trained on the first 16 MB of the documents in the order of their hashes: the same text
        gives the same merges, whatever the number of threads.

        Raises:
            UserError: the size is below 257.
            VocabularyTooLarge: the size is above what the text supports.
        """
        if size < SMALLEST:
            raise UserError(
                f"bpe:{size} is too small: 256 bytes and the end of a document need bpe:{SMALLEST}"
            )
        key = hashlib.sha256(
            f"{digest(documents)} {size} {TRAINING_BYTES} {tokenizers.__version__}".encode()
        ).hexdigest()
        path = Path(cache) / f"bpe-{size}-{key[:24]}.json"
        if (cached := read_cache(path)) is not None:
            return cls(cached.decode())
        tokenizer = cls(_train(_sample(documents), size))
        if tokenizer.vocab_size < size:
            raise VocabularyTooLarge(size, tokenizer.vocab_size)
        write_cache(path, tokenizer._library.to_str().encode())
        return tokenizer

    def encode(self, text: bytes) -> np.ndarray:
        return self.encode_documents([text])[0]

    def encode_documents(self, documents: list[bytes]) -> list[np.ndarray]:
        return encode_by_pieces(documents, self._encode_strings, self._byte_ids)

    def description(self) -> dict[str, Any]:
        return {"file": HUGGINGFACE}

    def save(self, folder: Path) -> None:
        """Also writes ``tokenizer.json``, with the end-of-document as its one special token."""
        whole = tokenizers.Tokenizer.from_str(self._library.to_str())
        whole.add_special_tokens([tokenizers.AddedToken(END_OF_DOCUMENT, normalized=False)])
        atomic_write_bytes(Path(folder) / HUGGINGFACE, whole.to_str(pretty=True).encode())
        super().save(folder)


def byte_characters() -> list[str]:
    """GPT-2's printable character for each byte value (``bytes_to_unicode`` in its encoder.py)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (value for value in range(256) if value not in printable)
    moved = {value: 0x100 + place for place, value in enumerate(others)}
    return [chr(moved.get(value, value)) for value in range(256)]


def _sample(documents: list[bytes]) -> list[str]:
    """The valid text of the first ``TRAINING_BYTES``, documents ordered by hash."""
    strings: list[str] = []
    room = TRAINING_BYTES
    for document in sorted(documents, key=lambda d: hashlib.sha256(d).digest()):
        strings += [piece for piece in utf8_pieces(document[:room]) if isinstance(piece, str)]
        room -= len(document)
        if room <= 0:
            break
    return strings


def _train(strings: list[str], size: int) -> str:
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    library.decoder = hf_decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1,
        min_frequency=2,
        initial_alphabet=sorted(byte_characters()),
        special_tokens=[],
        show_progress=False,
    )
    library.train_from_iterator(strings, trainer)
    return library.to_str()
