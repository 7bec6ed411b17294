"""Texts in the records of JSON lines, Parquet, and data sets of a hub, one after the other.

The text of a record is its field ``text`` if any record has one, else ``content``, else the field
of strings that holds the most: the first field is often an id. A record whose field is missing or
null has no text; it is skipped and counted.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mytnano.errors import UserError, brief, needs

FIELDS = ("text", "content")
"""Names of a field that is taken whatever else is there, the first before the second."""

HEAD = 1000
"""Records of a hub's data set in which its field is looked for; a file is looked through whole."""

_BOM = b"\xef\xbb\xbf"


@dataclass
class Taken:
    """Which field was taken, and of how many records; filled in while they are read."""

    field: str = ""
    records: int = 0
    skipped: int = 0

    def count(self, has_text: bool) -> bool:
        """Count a record; returns whether it has text."""
        self.records += has_text
        self.skipped += not has_text
        return has_text

    def notes(self, name: str) -> list[str]:
        """A sentence, unless every record had the field ``text``."""
        if not self.field or (self.field == FIELDS[0] and not self.skipped):
            return []
        left = f"; {self.skipped:,} without it were skipped" if self.skipped else ""
        return [f"Of {self.records:,} records in {name} the field '{self.field}' was read{left}."]


def jsonl_texts(path: Path, taken: Taken | None = None) -> Iterator[bytes]:
    """The texts of a file of JSON objects, one a line.

    Raises:
        UserError: it cannot be read, a line is not a JSON object, or no field holds strings.
    """
    taken = taken if taken is not None else Taken()
    taken.field = _chosen(_jsonl(path), f"'{path}'")
    for record in _jsonl(path):
        text = record.get(taken.field)
        if taken.count(isinstance(text, str)):
            yield to_bytes(text)


def _jsonl(path: Path) -> Iterator[dict]:
    try:
        with open(path, "rb") as file:  # lines end at "\n" alone
            for number, line in enumerate(file, start=1):
                line = line.removeprefix(_BOM) if number == 1 else line
                if line.strip():
                    yield _record(path, number, line)
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror})") from None


def _record(path: Path, number: int, line: bytes) -> dict:
    try:
        record = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        raise UserError(f"'{path}' line {number} is not JSON: fix or remove it") from None
    if not isinstance(record, dict):
        raise UserError(f"'{path}' line {number} is not a JSON object: fix or remove it")
    return record


def _chosen(records: Iterable[dict], name: str) -> str:
    """The field that holds the text; records are read until one has the field ``text``."""
    sizes: dict[str, int] = {}
    for record in records:
        for field, value in record.items():
            if isinstance(value, str):
                sizes[field] = sizes.get(field, 0) + len(value)
        if FIELDS[0] in sizes:
            break
    return _best(sizes, name)


def _best(sizes: dict[str, int], name: str) -> str:
    """The field by its name, else the one that holds the most, the first of equals."""
    if not sizes:
        raise UserError(f"{name} has no column of strings: add one named '{FIELDS[0]}'")
    return next((field for field in FIELDS if field in sizes), max(sizes, key=sizes.__getitem__))


def to_bytes(text: str) -> bytes:
    """UTF-8; escaped invalid bytes become themselves again, and lone surrogates are kept."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def parquet_texts(path: Path, taken: Taken | None = None) -> Iterator[bytes]:
    """The texts of a Parquet file.

    Raises:
        UserError: pyarrow is missing, or the file cannot be read or has no column of strings.
    """
    taken = taken if taken is not None else Taken()
    with _open_parquet(path) as (pyarrow, file):
        taken.field = _best(_parquet_sizes(pyarrow, file), f"'{path}'")
        for batch in file.iter_batches(batch_size=1024, columns=[taken.field]):
            values = batch.column(0).cast(pyarrow.large_binary()).to_pylist()  # perhaps not UTF-8
            yield from (value for value in values if taken.count(value is not None))


@contextlib.contextmanager
def _open_parquet(path: Path) -> Iterator[tuple[Any, Any]]:
    """The module pyarrow and an open file; what it raises in the block is a UserError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise needs(f"'{path}'", "pyarrow", "data") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield pyarrow, file
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"'{path}' cannot be read as Parquet ({brief(error)})") from None


def _parquet_sizes(pyarrow: Any, file: Any) -> dict[str, int]:
    """Bytes of each column of strings, from the file's own index."""
    kinds = pyarrow.types
    sizes = {
        column.name: 0
        for column in file.schema_arrow
        if kinds.is_string(column.type) or kinds.is_large_string(column.type)
    }
    index = file.metadata
    for group, column in itertools.product(range(index.num_row_groups), range(index.num_columns)):
        chunk = index.row_group(group).column(column)
        if chunk.path_in_schema in sizes:
            sizes[chunk.path_in_schema] += chunk.total_uncompressed_size
    return sizes


def hub_texts(name: str, taken: Taken | None = None) -> Iterator[bytes]:
    """The texts of ``NAME`` or ``NAME:CONFIG`` (split ``train``), fetched as they are asked for.

    Raises:
        UserError: ``datasets`` is missing, or the data set cannot be read.
    """
    try:
        import datasets
    except ImportError:
        raise needs(f"'hf:{name}'", "datasets", "data") from None
    taken = taken if taken is not None else Taken()
    repository, _, config = name.partition(":")
    try:
        records = datasets.load_dataset(repository, config or None, split="train", streaming=True)
        yield from _streamed_texts(records, name, taken)
    except UserError:
        raise
    except Exception as error:  # datasets raises errors of many libraries, networks included
        raise UserError(f"'hf:{name}' cannot be read ({brief(error)})") from None


def _streamed_texts(records: Iterable[dict], name: str, taken: Taken) -> Iterator[bytes]:
    """By the schema where the data set tells it, else by its first records."""
    columns = getattr(records, "column_names", None) or ()
    stream, head = iter(records), []
    if FIELDS[0] in columns:
        taken.field = FIELDS[0]
    else:

        def looked_at() -> Iterator[dict]:
            for record in itertools.islice(stream, HEAD):
                head.append(record)
                yield record

        taken.field = _chosen(looked_at(), f"'hf:{name}'")
    for record in itertools.chain(head, stream):
        text = record.get(taken.field)
        if taken.count(isinstance(text, str)):
            yield to_bytes(text)
