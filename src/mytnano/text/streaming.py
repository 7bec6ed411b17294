"""Documents of a corpus one after the other, for text that does not fit into memory.

What :mod:`mytnano.text.readers` reads whole is read here a piece at a time: the same files in the
same order, as the same documents; only a file without borders is cut into blocks at once.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mytnano.config import DataConfig
from mytnano.errors import UserError
from mytnano.text.corpus import Corpus, load_corpus
from mytnano.text.readers import (
    BLOCK_BYTES,
    corpus_path,
    cut_blocks,
    is_binary,
    list_folder,
    read_bytes,
    records_of,
)
from mytnano.text.records import Taken, hub_texts

IN_MEMORY = 512 << 20
"""Largest corpus, in bytes on disk, that is read and split as a whole."""

CHUNK = 64 << 20

Labelled = Iterator[tuple[str, bytes]]
"""(split, document), a split's documents in order."""


def fits(corpus: str) -> bool:
    """Whether a corpus is read and split as a whole, as a run would; a hub's never is.

    Raises:
        UserError: there is no such file or folder.
    """
    if corpus == "sotu":
        return True
    if corpus.startswith("hf:"):
        return False
    path = corpus_path(corpus)
    files = list_folder(path) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files) <= IN_MEMORY


def labelled_documents(
    corpus: str, split: str, held_out: float, limit: int, notes: list[str] | None = None
) -> Labelled:
    """The documents of a corpus with the split that each belongs to.

    A corpus that :func:`fits` is split as ``DataConfig.split`` says, exactly as for a run. Of a
    larger one each document goes by a hash of its content, to the test and to the validation text
    with chance ``held_out`` each: equal documents stay together, and no document has to be
    remembered.

    Args:
        limit: bytes of text to stop after, if it is streamed; 0 is never.
        notes: gets the sentences of :func:`stream_documents` about a corpus that is streamed.

    Raises:
        UserError: it cannot be read, or its split needs it in memory.
    """
    if fits(corpus):
        whole = whole_corpus(corpus, split)
        for name in ("train", "validation", "test"):
            yield from ((name, document) for document in getattr(whole, name))
        return
    if split != "documents":
        raise UserError(
            f"'{corpus}' is too large to be split by position: leave --split at documents"
        )
    read = 0
    for document in stream_documents(corpus, notes):
        yield chosen_split(document, held_out), document
        read += len(document)
        if limit and read >= limit:
            return


@functools.lru_cache(maxsize=1)
def whole_corpus(corpus: str, split: str) -> Corpus:
    """A corpus that fits, read and split; kept, as it is asked for a few times."""
    return load_corpus(DataConfig(corpus=corpus, split=split))


def chosen_split(document: bytes, held_out: float) -> str:
    """``test``, ``validation`` or ``train``, by content alone."""
    place = int.from_bytes(hashlib.sha256(document).digest()[:8], "little") / 2**64
    return "test" if place < held_out else "validation" if place < 2 * held_out else "train"


def stream_documents(corpus: str, notes: list[str] | None = None) -> Iterator[bytes]:
    """Every document that is not empty.

    Args:
        notes: gets a sentence about the field of records that was read, once it is known.

    Raises:
        UserError: unknown, missing or unreadable, or an optional package is missing.
    """
    notes = notes if notes is not None else []
    if corpus.startswith("hf:"):
        found = _records(hub_texts, corpus.removeprefix("hf:"), corpus, notes)
    else:
        path = corpus_path(corpus)
        found = _folder(path, notes) if path.is_dir() else _file(path, notes, bordered=False)
    return (document for document in found if document)


def _folder(folder: Path, notes: list[str]) -> Iterator[bytes]:
    for path in list_folder(folder):
        yield from _file(path, notes, bordered=True)


def _file(path: Path, notes: list[str], bordered: bool) -> Iterator[bytes]:
    """The documents of one file; a text of a folder is one document, a text alone is cut."""
    if (records := records_of(path)) is not None:
        yield from _records(records, path, path.name, notes)
    elif not bordered:
        yield from _blocks(path)
    else:
        text = read_bytes(path)
        if not is_binary(text):
            yield text


def _records(
    read: Callable[[Any, Taken], Iterator[bytes]], place: Path | str, name: str, notes: list[str]
) -> Iterator[bytes]:
    taken = Taken()
    try:
        yield from read(place, taken)
    finally:  # also where no more of them are wanted
        notes += taken.notes(name)


def _blocks(path: Path) -> Iterator[bytes]:
    """A text without borders in blocks of about 8 KiB, cut at blank lines where there are any."""
    rest = b""
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                *blocks, rest = cut_blocks(rest + chunk, BLOCK_BYTES)
                yield from blocks
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror})") from None
    yield rest


def first_training_bytes(documents: Labelled, limit: int) -> list[bytes]:
    """The training documents in the first ``limit`` bytes of them, the last one cut; 0: all."""
    kept: list[bytes] = []
    left = limit or 1 << 62
    for split, document in documents:
        if left <= 0:
            break
        if split == "train":
            kept.append(document[:left])
            left -= len(document)
    return kept


def groups(documents: Labelled, size: int) -> Iterator[tuple[str, list[bytes], bool]]:
    """(split, documents, last of its split): each group the next documents of one split.

    A group is full once it has ``size`` bytes of text. Groups of the splits come as they fill up.
    """
    filling: dict[str, list[bytes]] = {}
    held: dict[str, int] = {}
    full: dict[str, list[bytes]] = {}  # one of each split waits, to know whether it is the last
    for split, document in documents:
        filling.setdefault(split, []).append(document)
        held[split] = held.get(split, 0) + len(document)
        if held[split] >= size:
            if split in full:
                yield split, full[split], False
            full[split], filling[split], held[split] = filling[split], [], 0
    for split in dict.fromkeys(itertools.chain(full, filling)):
        left = filling.get(split, [])
        if split in full:
            yield split, full[split], not left
        if left:
            yield split, left, True
