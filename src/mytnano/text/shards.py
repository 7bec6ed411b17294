"""Token ids on disk, in checksummed shards: what a run trains on when its text fills no memory.

A shard folder holds, for each split, files of token ids and an index beside each::

    manifest.json       the tokenizer, and counts and checksums of every file
    tokenizer/          what made the ids
    train-00000.bin     ids, little-endian uint16, or uint32 for more than 65,536 of them
    train-00000.idx     uint32: the byte of text at which every 256th token starts, then the index
                        of the token before each document
    validation-00000.bin, ...

The ids of all shards in order are one stream, as :mod:`mytnano.text.stream` has it: an
end-of-document before each document and one at the very end. So a run trained from shards of a
text gives the same numbers as one trained from the text.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mytnano.errors import UserError
from mytnano.files import atomic_write_json, json_text, sha256_bytes, sha256_file
from mytnano.text.stream import Stream, stream_from_ids
from mytnano.text.tokenizers import load_tokenizer
from mytnano.text.vocabulary import Tokenizer

PREFIX = "shards:"
"""``data.corpus`` of a shard folder: ``shards:FOLDER``."""

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"
FORMAT = 1
BLOCK = 256
"""Tokens between two entries of the index."""

SPLITS = ("train", "validation", "test")

TOUCHED = 4096
"""Spans read before the maps are dropped; the system maps 64 KiB around each place that is read, so
resident memory stays near 100 MB however large the set is."""


@dataclass(frozen=True)
class Shard:
    """One file of ids and its index.

    Attributes:
        name: of both files, without suffix.
        tokens, documents: how many.
        bytes: of the text that the ids spell.
        sha256, index_sha256: of the two files.
        text_sha256: of the documents, borders included.
    """

    name: str
    tokens: int
    documents: int
    bytes: int
    sha256: str
    index_sha256: str
    text_sha256: str

    @property
    def blocks(self) -> int:
        """Entries of the index that are of every 256th token."""
        return -(-self.tokens // BLOCK)


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says.

    Attributes:
        corpus: name of the text. notes: sentences to print with any result.
        split: the rule that split it.
        tokenizer, tokenizer_sha256: name and fingerprint.
        vocab_size: ids, the end-of-document included.
        shards: of each split, in order.
    """

    corpus: str
    notes: list[str]
    split: str
    tokenizer: str
    tokenizer_sha256: str
    vocab_size: int
    shards: dict[str, list[Shard]]

    @property
    def dtype(self) -> np.dtype:
        """Of the ids on disk."""
        return np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all of it: equal only for equal ids of equal text."""
        return sha256_bytes(json_text(self.as_json()).encode())

    def as_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "block": BLOCK, **asdict(self)}

    def total(self, split: str, what: str) -> int:
        """The sum of ``tokens``, ``bytes`` or ``documents`` over the shards of a split."""
        return sum(getattr(shard, what) for shard in self.shards[split])

    def write(self, folder: Path) -> None:
        """Write ``manifest.json``; UserError if the disk is full."""
        atomic_write_json(
            folder / MANIFEST, self.as_json() | {"fingerprint": self.fingerprint}, indent=1
        )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a shard folder.

    Raises:
        UserError: there is none, it is damaged, or of another format.
    """
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        fingerprint = content.pop("fingerprint")
        whole = fingerprint == sha256_bytes(json_text(content).encode())
        known = (content.pop("format"), content.pop("block")) == (FORMAT, BLOCK)
        content["shards"] = {
            split: [Shard(**shard) for shard in shards]
            for split, shards in content["shards"].items()
        }
        manifest = Manifest(**content)
    except FileNotFoundError:
        raise UserError(
            f"'{folder}' has no {MANIFEST}, so it holds no finished shards: make them with "
            f"`mytnano shard CORPUS --tokenizer NAME --out {folder}`, which also continues an "
            "interrupted command"
        ) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"'{folder / MANIFEST}' cannot be read ({type(error).__name__}): make the shards again"
        ) from None
    if not whole:
        raise UserError(f"'{folder / MANIFEST}' was changed: make the shards again")
    if not known:
        raise UserError(
            f"'{folder}' holds shards of another version of mytnano: make them again with this one"
        )
    return manifest


def shard_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    """The tokenizer of a shard folder; UserError if it is not the one that made the ids."""
    tokenizer = load_tokenizer(folder / TOKENIZER)
    if tokenizer.fingerprint != manifest.tokenizer_sha256:
        raise UserError(
            f"the tokenizer in '{folder}' is not the one that made its shards: make them again"
        )
    return tokenizer


def damaged_file(folder: Path, shard: Shard, manifest: Manifest) -> str | None:
    """A sentence on what is wrong with a shard's files, or None: sizes first, then checksums."""
    wanted = {
        f"{shard.name}.bin": (shard.tokens * manifest.dtype.itemsize, shard.sha256),
        f"{shard.name}.idx": (4 * (shard.blocks + shard.documents), shard.index_sha256),
    }
    for name, (size, digest) in wanted.items():
        path = folder / name
        try:
            found = path.stat().st_size
            if found != size:
                return f"'{path}' has {found:,} bytes instead of {size:,}"
            if sha256_file(path) != digest:
                return f"'{path}' does not match its checksum"
        except OSError as error:
            return f"'{path}' cannot be read ({error.strerror})"
    return None


def verify(folder: Path, manifest: Manifest, cache: Path | None = None) -> None:
    """Check every file of a shard folder against the manifest.

    Args:
        cache: where to remember which files, by size and time, matched: they are not read again.

    Raises:
        UserError: a file is missing, or is not what was written.
    """
    note = None if cache is None else cache / f"shards-{manifest.fingerprint[:24]}.json"
    known = _read_note(note)
    for shard in (shard for split in SPLITS for shard in manifest.shards[split]):
        stamp = _stamp(folder, shard)
        if stamp is not None and known.get(shard.name) == stamp:
            continue
        if sentence := damaged_file(folder, shard, manifest):
            raise UserError(
                f"{sentence}: run the `mytnano shard` command that made it again, which mends only "
                "what is damaged"
            )
        known[shard.name] = stamp
    if note is not None and known != _read_note(note):
        atomic_write_json(note, known)


def _stamp(folder: Path, shard: Shard) -> list[Any] | None:
    try:
        found = [(folder / f"{shard.name}.{kind}").stat() for kind in ("bin", "idx")]
    except OSError:
        return None
    return [str(folder.resolve()), *([s.st_size, s.st_mtime_ns, s.st_ino] for s in found)]


def _read_note(path: Path | None) -> dict[str, Any]:
    try:
        return {} if path is None else dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


class ShardStream:
    """A split on disk, with the methods and attributes of :class:`~mytnano.text.stream.Stream`.

    Attributes:
        ids, offsets: (n,), read from the disk by index; ``np.asarray`` of them takes all of it into
            memory.
        document_starts: (k,) likewise.
        byte_count, vocab_size: as of a stream.
    """

    in_memory = False

    def __init__(
        self, folder: Path, manifest: Manifest, split: str, byte_lengths: np.ndarray
    ) -> None:
        """``byte_lengths`` (V,) are the tokenizer's."""
        self.byte_count = manifest.total(split, "bytes")
        self.vocab_size = manifest.vocab_size
        self._lengths = byte_lengths
        self._shards = manifest.shards[split]
        self._paths = [folder / shard.name for shard in self._shards]
        self._dtype = manifest.dtype
        self._tokens = _running(shard.tokens for shard in self._shards)  # (shards + 1,)
        self._bytes = _running(shard.bytes for shard in self._shards)  # (shards + 1,)
        self._documents = _running(shard.documents for shard in self._shards)  # (shards + 1,)
        self._maps: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._read = 0
        self.ids = _Array(int(self._tokens[-1]), self._ids_at, np.int32)
        self.offsets = _Array(int(self._tokens[-1]), self.byte_at, np.int64)
        self.document_starts = _Array(int(self._documents[-1]), self._starts_at, np.int64)

    def spans(self, first: np.ndarray, length: int) -> np.ndarray:
        """Ids of ``length`` tokens from each of ``first`` (B,) on: (B, length) int64."""
        out = np.empty((len(first), length), np.int64)  # (B, length)
        shards = np.searchsorted(self._tokens, first, "right") - 1  # (B,)
        for row, shard, start in zip(out, shards.tolist(), first.tolist(), strict=True):
            self._fill(row, shard, start)
        return out

    def token_at(self, byte: np.ndarray) -> np.ndarray:
        """The first token that starts at or after each byte, (B,) int64."""
        found = np.empty(len(byte), np.int64)  # (B,)
        # The end-of-document at a border of two shards starts with what follows it, so the first
        # token at that byte is the first of the later shard.
        shards = np.searchsorted(self._bytes, byte, "right") - 1  # (B,)
        shards = np.minimum(shards, len(self._shards) - 1)  # (B,)
        for place, (shard, wanted) in enumerate(zip(shards.tolist(), byte.tolist(), strict=True)):
            _, index = self._map(shard)
            wanted -= int(self._bytes[shard])
            # Bytes grow by blocks; the token lies in the last block that starts before the byte.
            blocks = index[: self._shards[shard].blocks]
            block = max(0, int(np.searchsorted(blocks, np.uint32(wanted))) - 1)
            starts = self._starts_in_block(shard, block)  # (BLOCK,)
            found[place] = (
                self._tokens[shard] + block * BLOCK + int(np.searchsorted(starts, wanted))
            )
        return found

    def byte_at(self, token: np.ndarray) -> np.ndarray:
        """Where each token starts, (B,) int64; the token after the last one starts at the end."""
        found = np.full(len(token), self.byte_count, np.int64)  # (B,)
        shards = np.searchsorted(self._tokens, token, "right") - 1  # (B,)
        for place, (shard, wanted) in enumerate(zip(shards.tolist(), token.tolist(), strict=True)):
            if shard < len(self._shards):
                block, inside = divmod(wanted - int(self._tokens[shard]), BLOCK)
                starts = self._starts_in_block(shard, block)  # (BLOCK,)
                found[place] = self._bytes[shard] + starts[inside]
        return found

    def _starts_in_block(self, shard: int, block: int) -> np.ndarray:
        """Bytes into the shard's text at which the tokens of a block start, (BLOCK,) int64."""
        ids, index = self._map(shard)
        lengths = self._lengths[ids[block * BLOCK : (block + 1) * BLOCK]]  # (BLOCK,)
        return int(index[block]) + np.cumsum(lengths) - lengths

    def _fill(self, row: np.ndarray, shard: int, start: int) -> None:
        done = 0
        while done < len(row):
            ids, _ = self._map(shard)
            begin = start + done - int(self._tokens[shard])
            part = ids[begin : begin + len(row) - done]
            row[done : done + len(part)] = part
            done, shard = done + len(part), shard + 1

    def _ids_at(self, places: np.ndarray) -> np.ndarray:
        return self.spans(places, 1)[:, 0].astype(np.int32)

    def _starts_at(self, places: np.ndarray) -> np.ndarray:
        """Index of the end-of-document before each document, (B,) int64."""
        found = np.empty(len(places), np.int64)
        shards = np.searchsorted(self._documents, places, "right") - 1  # (B,)
        for out, (shard, place) in enumerate(zip(shards.tolist(), places.tolist(), strict=True)):
            _, index = self._map(shard)
            inside = self._shards[shard].blocks + place - int(self._documents[shard])
            found[out] = self._tokens[shard] + int(index[inside])
        return found

    def _map(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """A shard's ids and index, mapped; all maps are dropped now and then to free their pages.

        Pages of a mapped file count as this process's memory from when they are read until the map
        goes or the system needs them.
        """
        self._read += 1
        if self._read >= TOUCHED:
            self._maps.clear()
            self._read = 0
        if shard not in self._maps:
            path = self._paths[shard]
            self._maps[shard] = (
                _mapped(path.with_name(path.name + ".bin"), self._dtype),
                _mapped(path.with_name(path.name + ".idx"), np.dtype("<u4")),
            )
        return self._maps[shard]


class _Array(Sequence):
    """A one-dimensional array that is read when it is indexed."""

    def __init__(self, length: int, read: Any, dtype: type) -> None:
        self._length, self._read = length, read
        self.dtype, self.shape, self.ndim = np.dtype(dtype), (length,), 1

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return self._at(np.arange(*key.indices(self._length)))
        places = np.asarray(key)
        if places.dtype == bool:
            places = np.flatnonzero(places)
        places = np.where(places < 0, places + self._length, places)
        if places.size and (places.min() < 0 or places.max() >= self._length):
            raise IndexError(f"an index is outside of {self._length}")
        found = self._at(places.reshape(-1)).reshape(places.shape)
        return found if places.ndim else found[()]

    def _at(self, places: np.ndarray) -> np.ndarray:
        return self._read(places).astype(self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype)


def _running(counts: Iterator[int]) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(np.fromiter(counts, np.int64)))).astype(np.int64)


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    try:
        with open(path, "rb") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"'{path}' cannot be read any more ({reason}): restore the shards; the same command "
            "continues"
        ) from None


def whole_stream(folder: Path, manifest: Manifest, split: str, tokenizer: Tokenizer) -> Stream:
    """A split in memory, 12 bytes a token: for the splits that are scored."""
    paths = [folder / f"{shard.name}.bin" for shard in manifest.shards[split]]
    ids = np.concatenate([np.fromfile(path, manifest.dtype) for path in paths])
    return stream_from_ids(ids.astype(np.int32), manifest.total(split, "bytes"), tokenizer)
