"""A corpus: documents in three splits, and what a reader of the results must know about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from mytnano.config import DataConfig
from mytnano.errors import UserError
from mytnano.text.cache import digest
from mytnano.text.readers import (
    BLOCK_BYTES,
    Source,
    cut_blocks,
    existing_path,
    read_path,
    read_source,
)
from mytnano.text.splits import (
    SHINGLE,
    Split,
    parse_split,
    shared_documents,
    shared_passages,
    split_by_hash,
    split_by_position,
)

SMALLEST_CORPUS = 20_000
SMALLEST_SPLIT = 1_000
FEWEST_DOCUMENTS = 30
LARGEST_SHARE = 0.05
"""A document above this share of the bytes makes 10 % splits of whole documents too uneven."""

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Corpus:
    """Three splits of raw documents.

    Attributes:
        name: for titles.
        fingerprint: sha256 hex over the documents of the three splits, borders included.
        train, validation, test: documents, any bytes, none empty.
        notes: sentences to print with any result.
    """

    name: str
    fingerprint: str
    train: Sequence[bytes]
    validation: Sequence[bytes]
    test: Sequence[bytes]
    notes: list[str]

    @property
    def held(self) -> int:
        """Bytes of text in memory; shards are mapped, and hold none."""
        splits = (self.train, self.validation, self.test)
        return sum(sum(map(len, each)) for each in splits if isinstance(each, list))


def load_corpus(data: DataConfig) -> Corpus:
    """Read and split the corpus that ``data`` names.

    Raises:
        UserError: it is unknown, missing, unreadable, empty or too small, the split is not one,
            or the text is no longer the one of ``data.fingerprint``.
    """
    tail = parse_split(data.split)
    if data.corpus.startswith("shards:"):
        from mytnano.text.shard_corpus import open_shards  # which needs this module

        return open_shards(data)[0]
    source = read_source(data.corpus)
    notes = list(source.notes)
    held_out = _read_test(data.test_file, notes) if data.test_file is not None else None
    total = sum(map(len, source.documents))
    if total < SMALLEST_CORPUS:
        raise UserError(
            f"'{data.corpus}' holds {total:,} bytes of text; at least {SMALLEST_CORPUS:,} are "
            "needed: add text"
        )
    documents = _documents(source, notes)
    split, how = _split(documents, source.years, tail, held_out is not None)
    notes.append(f"{how}: {_shares(split)}.")
    if held_out is not None:
        split = Split(split.train, split.validation, held_out)
    _check_sizes(split, data)
    fingerprint = hashlib.sha256(
        " ".join(map(digest, (split.train, split.validation, split.test))).encode()
    ).hexdigest()
    if data.fingerprint and data.fingerprint != fingerprint:
        raise UserError(
            f"the text of '{data.corpus}' has changed since this run began: restore it, or start "
            "anew in another folder"
        )
    notes += [*_invalid_note(split), _shared_note(split), *_whole_notes(split)]
    return Corpus(source.name, fingerprint, split.train, split.validation, split.test, notes)


def _read_test(test_file: str, notes: list[str]) -> list[bytes]:
    path = existing_path(test_file)
    if path is None or not path.is_file():
        raise UserError(f"the test file '{test_file}' is not an existing file: check the spelling")
    source = read_path(path)
    if not source.documents:
        raise UserError(f"the test file '{test_file}' is empty: give one with text")
    notes.append(f"The test text is all of {source.name}.")
    if source.bordered:
        return source.documents
    return cut_blocks(source.documents[0], _block_size(source.documents))


def _documents(source: Source, notes: list[str]) -> list[bytes]:
    """The documents of a source, cut where whole ones could not fill three fair splits."""
    sizes = [len(document) for document in source.documents]
    if not source.bordered:
        reason = "it has no document borders"
    elif len(set(source.documents)) < FEWEST_DOCUMENTS:
        reason = f"it has fewer than {FEWEST_DOCUMENTS} documents"
    elif max(sizes) > LARGEST_SHARE * sum(sizes):
        reason = f"one document holds {max(sizes) / sum(sizes):.0%} of its bytes"
    else:
        return source.documents
    size = _block_size(source.documents)
    blocks = [block for document in source.documents for block in cut_blocks(document, size)]
    notes.append(
        f"{source.name} was cut, at blank lines where there are any, into {len(blocks):,} blocks "
        f"of about {size:,} bytes, because {reason}."
    )
    return blocks


def _block_size(documents: list[bytes]) -> int:
    """8 KiB, or less where that would make fewer than about 50 blocks."""
    return max(256, min(BLOCK_BYTES, sum(map(len, documents)) // 50))


def _split(
    documents: list[bytes], years: list[int] | None, tail: float | None, has_test: bool
) -> tuple[Split, str]:
    """The split, without a test text if it ``has_test`` already, and how it was made."""
    if tail is not None:
        shares = (0.0 if has_test else tail, tail)
        how = f"The last {100 * tail:g} % of the bytes are the "
        if has_test:
            how += "validation text"
        else:
            how += (
                f"test text, the {100 * tail:g} % before them the validation text (borders are "
                "moved out of characters)"
            )
        return split_by_position(documents, shares), how
    shares = (0.0, 0.1) if has_test else (0.1, 0.1)
    if years is not None:
        half_centuries = [year // 50 for year in years]
        how = "Addresses were split by content hash within each half-century, those of one year "
        return split_by_hash(documents, years, half_centuries, shares), f"{how}together"
    return split_by_hash(documents, shares=shares), "Documents were split by content hash"


def _shares(split: Split) -> str:
    """What came of it, as whole documents never meet their shares exactly."""
    sizes = {name: sum(map(len, getattr(split, name))) for name in PARTS}
    total = sum(sizes.values())
    shown = [f"{name} {100 * size / total:.1f} %" for name, size in sizes.items() if size]
    return f"{', '.join(shown)} of the bytes"


def _check_sizes(split: Split, data: DataConfig) -> None:
    for name in PARTS:
        size = sum(map(len, getattr(split, name)))
        if size < SMALLEST_SPLIT:
            own = name == "test" and data.test_file is not None
            what = f"the test file '{data.test_file}'" if own else ""
            what = what or f"the {name} split of '{data.corpus}'"
            raise UserError(
                f"{what} has {size:,} bytes; at least {SMALLEST_SPLIT:,} are needed: add text or "
                + ("choose another file" if own else "change the split")
            )


def _invalid_note(split: Split) -> list[str]:
    documents = [*split.train, *split.validation, *split.test]
    count = sum(not _is_utf8(document) for document in documents)
    if not count:
        return []
    return [
        f"{count:,} of {len(documents):,} documents hold invalid UTF-8; their bytes are kept as "
        "they are."
    ]


def _is_utf8(document: bytes) -> bool:
    try:
        document.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shared_note(split: Split) -> str:
    names = ("test", "validation")
    shares = shared_passages([getattr(split, name) for name in names], split.train)
    known = {name: share for name, share in zip(names, shares, strict=True) if share is not None}
    told = " and ".join(f"{share:.2%} of those of the {name} text" for name, share in known.items())
    told = told.replace("of those of", f"of the {SHINGLE}-byte passages of", 1)
    bare = [f"the {name} text" for name in names if name not in known]
    parts = [f"{told} also occur in the training text"] * bool(known)
    if bare:
        parts.append(f"{' and '.join(bare)} had no passage of {SHINGLE} bytes to compare")
    return f"Near-duplicates: {'; '.join(parts)}."


def _whole_notes(split: Split) -> list[str]:
    """Documents that are whole in the training text: passages tell nothing of short ones."""
    notes = []
    for name in ("test", "validation"):
        part = getattr(split, name)
        if count := shared_documents(part, split.train):
            notes.append(
                f"{count:,} of {len(part):,} documents of the {name} text are, whole, documents of "
                "the training text too."
            )
    return notes
