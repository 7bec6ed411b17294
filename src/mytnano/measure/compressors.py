"""xz and zstd given the training text: what a general compressor makes of the same test text.

Documents become bytes with a NUL after each (the end of a document is paid for, as the models pay
for it). Both compressors keep the whole training text in their window while they code the test
text. Text that itself holds NUL bytes is compressed alike; only its document ends are then not
recoverable, which is worth less than a bit for each document.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import zstandard

from mytnano.measure.symbols import BORDER

SEPARATOR = b"\0"
MIN_DICTIONARY = 4096
MAX_DICTIONARY = 3 << 29  # liblzma's limit, 1.5 GiB


def training_text(fragments: Sequence[np.ndarray]) -> bytes:
    """Fragments of symbols 0..256 joined, each document border that follows text as one NUL."""
    parts = []
    for fragment in fragments:
        body = fragment[1:] if len(fragment) and fragment[0] == BORDER else fragment
        parts.append(np.where(body == BORDER, SEPARATOR[0], body).astype(np.uint8).tobytes())
    return b"".join(parts)


def documents_text(documents: Iterable[bytes]) -> bytes:
    """Documents joined, a NUL after each."""
    return b"".join(document + SEPARATOR for document in documents)


def xz_bits(train: bytes, test: bytes) -> float:
    """Bits of ``train + test`` less bits of ``train``, both as .xz.

    Preset 9 extreme with a dictionary that covers both texts, and lc=4, pb=0 as suits text.
    Differences of whole files are exact up to the container's padding (3 bytes).
    """
    dictionary = min(max(len(train) + len(test), MIN_DICTIONARY), MAX_DICTIONARY)
    filters = [
        {
            "id": lzma.FILTER_LZMA2,
            "preset": 9 | lzma.PRESET_EXTREME,
            "dict_size": dictionary,
            "lc": 4,
            "pb": 0,
        }
    ]

    def size(text: bytes) -> int:
        packed = lzma.compress(text, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=filters)
        return len(packed)

    with ThreadPoolExecutor(2) as both:  # liblzma runs outside of Python's lock
        whole, alone = both.map(size, (train + test, train))
    return 8.0 * (whole - alone)


def zstd_bits(train: bytes, test: bytes) -> float:
    """Bits that one zstd frame grows by when ``test`` follows ``train``.

    Level 22 (the strongest) with a window over both texts. The encoder is flushed between them, so
    the growth is the test text's own cost with the matches and entropy tables of the training text.
    """
    total = len(train) + len(test)
    window = min(max(total.bit_length(), zstandard.WINDOWLOG_MIN), zstandard.WINDOWLOG_MAX)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        22, source_size=total, window_log=window
    )
    encoder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    encoder.compress(train)
    encoder.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return 8.0 * (len(encoder.compress(test)) + len(encoder.flush()))
