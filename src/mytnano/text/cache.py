"""Cache files that carry their own checksum, and the digest that names them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from mytnano.files import atomic_write_bytes

MAGIC = b"mytnano-cache-1\n"


def write_cache(path: Path, payload: bytes) -> None:
    """Write ``payload`` behind its sha256, atomically; UserError if the disk is full."""
    atomic_write_bytes(path, MAGIC + hashlib.sha256(payload).digest() + payload)


def read_cache(path: Path) -> bytes | None:
    """The payload of a cache file, or None if it is absent, unreadable or damaged."""
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    head = len(MAGIC) + hashlib.sha256().digest_size
    payload = content[head:]
    if bytes(content[:head]) != MAGIC + hashlib.sha256(payload).digest():
        return None
    return bytes(payload)


def digest(documents: Iterable[bytes]) -> str:
    """sha256 hex over documents and their borders: equal only for equal lists."""
    total = hashlib.sha256()
    for document in documents:
        total.update(len(document).to_bytes(8, "little"))
        total.update(document)
    return total.hexdigest()
