"""A shard folder as a corpus: what a run reads of its text besides the ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mytnano.config import DataConfig
from mytnano.errors import UserError
from mytnano.text.corpus import Corpus
from mytnano.text.shards import (
    PREFIX,
    Manifest,
    ShardStream,
    read_manifest,
    shard_tokenizer,
    verify,
    whole_stream,
)
from mytnano.text.stream import Stream
from mytnano.text.vocabulary import Tokenizer


class ShardDocuments(Sequence[bytes]):
    """The documents of a split, decoded one at a time."""

    def __init__(self, stream: Stream | ShardStream, tokenizer: Tokenizer) -> None:
        self._stream, self._tokenizer = stream, tokenizer

    def __len__(self) -> int:
        return len(self._stream.document_starts)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        starts = self._stream.document_starts
        stop = starts[place + 1] if place + 1 < len(self) else len(self._stream.ids) - 1
        return self._tokenizer.decode(self._stream.ids[int(starts[place]) + 1 : int(stop)])

    def __iter__(self) -> Iterator[bytes]:
        return (self[place] for place in range(len(self)))


def shard_folder(corpus: str) -> Path:
    """The folder of ``shards:FOLDER``.

    Raises:
        UserError: it has no name.
    """
    named = corpus.removeprefix(PREFIX)
    if not named:
        raise UserError(f"'{corpus}' names no folder: give {PREFIX}FOLDER, as mytnano shard said")
    return Path(named).expanduser()


def open_shards(
    data: DataConfig, cache: Path | None = None
) -> tuple[Corpus, Tokenizer, ShardStream, Stream, Stream]:
    """Corpus, tokenizer and (train, validation, test) streams of ``shards:FOLDER``.

    Args:
        cache: where to remember what was verified; None only looks at the manifest.

    Raises:
        UserError: the folder is missing, unfinished or damaged, has changed since the run was
            planned, or does not go with other fields of ``data``.
    """
    folder = shard_folder(data.corpus)
    manifest = read_manifest(folder)
    if data.test_file is not None or data.split not in ("documents", manifest.split):
        raise UserError(
            f"'{data.corpus}' is split already ({manifest.split}): leave the split and the test "
            "file out, or make other shards"
        )
    if data.fingerprint and data.fingerprint != manifest.fingerprint:
        raise UserError(
            f"the text of '{data.corpus}' has changed since this run was planned: "
            "start again in a new --out folder"
        )
    if cache is not None:
        verify(folder, manifest, cache)
    tokenizer = shard_tokenizer(folder, manifest)
    train = ShardStream(folder, manifest, "train", tokenizer.byte_lengths)
    validation, test = (
        whole_stream(folder, manifest, split, tokenizer) for split in ("validation", "test")
    )
    documents = (ShardDocuments(stream, tokenizer) for stream in (train, validation, test))
    corpus = Corpus(manifest.corpus, manifest.fingerprint, *documents, about(data, manifest))
    return corpus, tokenizer, train, validation, test


def about(data: DataConfig, manifest: Manifest) -> list[str]:
    """The manifest's notes, and how much it holds."""
    tokens, size = (manifest.total("train", what) for what in ("tokens", "bytes"))
    return [
        *manifest.notes,
        f"{data.corpus} has {tokens:,} training tokens in {manifest.tokenizer} "
        f"({size:,} bytes of text) in {len(manifest.shards['train'])} shards.",
    ]


def check_tokenizer(data: DataConfig, tokenizer: Tokenizer) -> None:
    """Shards are in one vocabulary; UserError if a run wants another."""
    if data.tokenizer != tokenizer.name:
        raise UserError(
            f"'{data.corpus}' is in {tokenizer.name}, and this design wants {data.tokenizer}: make "
            f"shards with --tokenizer {data.tokenizer}, or set data.tokenizer={tokenizer.name}"
        )
