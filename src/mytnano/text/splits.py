"""Which documents train, which choose and which test: by content hash, or by position."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mytnano.errors import UserError

SHINGLE = 64
"""Bytes of a passage that counts as a copy: about a dozen English words."""

CHUNK_BYTES = 1 << 24
"""Text hashed at a time; it bounds the memory and not the result."""


@dataclass(frozen=True)
class Split:
    """Documents of the three splits."""

    train: list[bytes]
    validation: list[bytes]
    test: list[bytes]


def split_by_hash(
    documents: Sequence[bytes],
    groups: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | None = None,
    shares: tuple[float, float] = (0.1, 0.1),
) -> Split:
    """Assign documents to test, validation and train by their content, in bytes.

    Within each stratum, groups are put in the order of their hashes; the first go to test until
    its share of the stratum's bytes is met as nearly as whole groups allow, the next to
    validation, the rest train. It depends on the set of documents and not on their order, and
    identical documents stay together: copies that fill more than half a share go to train first,
    or one record could be a whole split. Each split is in hash order: any prefix is a fair sample.

    Args:
        documents: raw bytes.
        groups: documents of an equal group are never separated; by default, of equal content.
        strata: shares hold within each stratum; by default there is one.
        shares: of test and of validation; a share of 0 leaves that split empty.
    """
    hashes = [hashlib.sha256(document).digest() for document in documents]
    most = 0.5 * max(shares) if groups is None else 1.0  # given groups are as large as they are
    groups = hashes if groups is None else groups
    strata = [0] * len(documents) if strata is None else strata
    members: dict[tuple[Hashable, Hashable], list[int]] = {}
    for index, key in enumerate(zip(strata, groups, strict=True)):
        members.setdefault(key, []).append(index)
    parts: list[list[int]] = [[], [], []]  # test, validation, train
    for stratum in dict.fromkeys(strata):
        ordered = sorted(
            (hashlib.sha256(b"".join(sorted(hashes[i] for i in indices))).digest(), indices)
            for (own, _), indices in members.items()
            if own == stratum
        )
        size_of = lambda indices: sum(len(documents[i]) for i in indices)
        limit = most * sum(size_of(indices) for _, indices in ordered)
        ordered.sort(key=lambda group: size_of(group[1]) > limit)  # stable: the last ones train
        sizes = [size_of(indices) for _, indices in ordered]
        for part, chosen in zip(parts, _cut_shares(sizes, shares), strict=True):
            part += [i for position in chosen for i in ordered[position][1]]
    test, validation, train = (
        [documents[i] for i in sorted(part, key=lambda i: hashes[i])] for part in parts
    )
    return Split(train, validation, test)


def _cut_shares(sizes: list[int], shares: tuple[float, float]) -> list[range]:
    """Consecutive ranges of positions: one per share, as near to it as possible, and the rest.

    Each positive share gets at least one position, and so does the rest, while there are enough.
    """
    total = sum(sizes)
    ranges = []
    start = 0
    for place, share in enumerate(shares):
        later = 1 + sum(other > 0 for other in shares[place + 1 :])
        stop, held = start, 0
        while share > 0 and stop < len(sizes) - later:
            missing = share * total - held
            if stop > start and missing < sizes[stop] / 2:
                break
            held += sizes[stop]
            stop += 1
        ranges.append(range(start, stop))
        start = stop
    return [*ranges, range(start, len(sizes))]


def split_by_position(documents: Sequence[bytes], shares: tuple[float, float]) -> Split:
    """The last share of the bytes is test, the share before it validation, the rest train.

    Borders are moved back by up to three bytes where they would cut a UTF-8 character; a document
    that spans a border is cut there. ``shares`` is of test and of validation.
    """
    total = sum(map(len, documents))
    test_start = total - round(shares[0] * total)
    validation_start = test_start - round(shares[1] * total)
    train, rest = _cut_at(documents, validation_start)
    validation, test = _cut_at(rest, test_start - sum(map(len, train)))
    return Split(train, validation, test)


def _cut_at(documents: Sequence[bytes], position: int) -> tuple[list[bytes], list[bytes]]:
    before: list[bytes] = []
    for index, document in enumerate(documents):
        if position < len(document):
            cut = character_start(document, position)
            parts = [part for part in (document[:cut], document[cut:]) if part]
            return before + parts[: cut > 0], parts[cut > 0 :] + list(documents[index + 1 :])
        before.append(document)
        position -= len(document)
    return before, []


def character_start(text: bytes, position: int) -> int:
    """``position``, moved back to the first byte of the UTF-8 character that it is inside of."""
    for start in range(position, max(-1, position - 4), -1):
        if start >= len(text) or text[start] & 0xC0 != 0x80:
            return start
    return position  # four continuation bytes: not UTF-8, so there is no character to keep whole


def parse_split(text: str) -> float | None:
    """The fraction of ``tail:FRACTION``, or None for ``documents``; UserError otherwise."""
    if text == "documents":
        return None
    kind, _, number = text.partition(":")
    try:
        fraction = float(number)
    except ValueError:
        fraction = 0.0
    if kind != "tail" or not 0 < fraction <= 0.4:
        raise UserError(
            f"split '{text}' is neither 'documents' nor 'tail:FRACTION' "
            "with a fraction above 0 and up to 0.4, such as tail:0.1"
        )
    return fraction


def shared_passages(parts: Sequence[Iterable[bytes]], train: Iterable[bytes]) -> list[float | None]:
    """Share of the passages of each part that also occur, byte for byte, in ``train``.

    None for a part without a passage to compare. A passage is any ``SHINGLE`` bytes of one
    document; one in 32 is looked at, chosen by its first 8 bytes so that every part chooses the
    same (winnowing, Schleimer et al. 2003).
    """
    known = np.sort(_passage_hashes(train))
    return [_share_within(_passage_hashes(part), known) for part in parts]


def shared_documents(part: Iterable[bytes], train: Iterable[bytes]) -> int:
    """Documents of a part that are also, whole, documents of ``train``, however short they are."""
    return sum(map(frozenset(train).__contains__, part))


def _share_within(hashes: np.ndarray, known: np.ndarray) -> float | None:
    """Share of ``hashes`` (m,) that are in ``known`` (n,), which is sorted; None if m is 0."""
    if not len(hashes):
        return None
    if not len(known):
        return 0.0
    places = np.searchsorted(known, hashes).clip(max=len(known) - 1)
    return float((known[places] == hashes).mean())


def _passage_hashes(documents: Iterable[bytes]) -> np.ndarray:
    hashes = [_sampled_hashes(chunk) for chunk in _chunks(documents, CHUNK_BYTES)]
    return np.concatenate(hashes) if hashes else np.empty(0, dtype=np.uint64)


def _sampled_hashes(documents: list[bytes]) -> np.ndarray:
    text = b"".join(documents)
    if len(text) < SHINGLE:
        return np.empty(0, dtype=np.uint64)
    starts = _sampled_starts(text)
    ends = np.cumsum([len(document) for document in documents])
    room = ends[np.searchsorted(ends, starts, side="right")] - starts
    starts = starts[room >= SHINGLE]
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(text, np.uint8), SHINGLE)
    words = windows[starts].view("<u8")  # (m, 8)
    mixed = (words ^ (words >> np.uint64(29))) * _MULTIPLIERS  # (m, 8), modulo 2^64
    return (mixed ^ (mixed >> np.uint64(32))).sum(axis=1, dtype=np.uint64)


_MULTIPLIERS = np.frombuffer(hashlib.sha512(b"passages").digest(), dtype="<u8") | np.uint64(1)


def _sampled_starts(text: bytes) -> np.ndarray:
    """Ascending positions whose next 8 bytes hash into one class of 32."""
    chosen = np.zeros(len(text), dtype=bool)
    for phase in range(8):
        words = np.frombuffer(text, "<u8", offset=phase, count=(len(text) - phase) // 8)
        classes = (words * _MULTIPLIERS[0]) >> np.uint64(59)
        chosen[phase::8][: len(words)] = classes == 0
    return np.flatnonzero(chosen)


def _chunks(documents: Iterable[bytes], size: int) -> Iterable[list[bytes]]:
    chunk: list[bytes] = []
    held = 0
    for document in documents:
        chunk.append(document)
        held += len(document)
        if held >= size:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk
