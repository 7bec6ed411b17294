"""An SQLite table over the finished runs: a convenience that can be deleted at any time.

The run folders are the truth. The index carries two digests, one of the run folders it was built
from (manifests, sizes and times of all files) and one of its own rows. If either does not match, or
the file is missing, garbage or of another program, it is built anew from the folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mytnano.files import atomic_file
from mytnano.runs.store import MANIFEST, RunFolder, finished_runs, run_folders

INDEX = "index.sqlite"

_FORMAT = "mytnano-index-1"
_LARGEST = 2**63 - 1

Row = dict[str, Any]


class Index:
    """The finished runs of an output folder as one SQLite table, ``runs``.

    A row a run: ``folder`` (name of the run folder) and every scalar key of its ``result.json``.
    Booleans are 0 and 1, as SQLite has them.
    """

    def __init__(self, out: Path) -> None:
        self.out = Path(out)
        self.path = self.out / INDEX

    def rows(self) -> list[Row]:
        """All rows by folder name; a stale or damaged index is rebuilt first.

        Raises:
            UserError: the index must be rebuilt and the disk is full or cannot be written.
        """
        rows = self._read()
        return self.rebuild() if rows is None else rows

    def refresh(self, checked: Iterable[RunFolder]) -> None:
        """Have the index match the run folders.

        Args:
            checked: every finished run there, whose files this command has checked or written.

        Raises:
            UserError: as :meth:`rows`.
        """
        if self._read() is None:
            self.rebuild(checked)

    def rebuild(self, checked: Iterable[RunFolder] | None = None) -> list[Row]:
        """Write the index anew from the run folders, all of which are read if none is given."""
        # Taken first: a run that finishes meanwhile makes the index stale, not wrong.
        source = self._source()
        runs = finished_runs(self.out)[0] if checked is None else checked
        rows = [{"folder": run.path.name, **_scalars(run.result())} for run in runs]
        columns = list(dict.fromkeys(["folder", *(key for row in rows for key in row)]))
        # A journal that another program left beside the index would be rolled back into it.
        for suffix in ("-journal", "-wal", "-shm"):
            self.path.with_name(INDEX + suffix).unlink(missing_ok=True)
        with atomic_file(self.path) as temporary, _opened(temporary) as database:
            names = ", ".join(map(_quoted, columns))
            marks = ", ".join("?" * len(columns))
            database.execute(f"CREATE TABLE runs ({names})")
            database.executemany(
                f"INSERT INTO runs VALUES ({marks})",
                [[row.get(column) for column in columns] for row in rows],
            )
            database.execute("CREATE TABLE about (format, source, content)")
            rows = _select(database)
            database.execute("INSERT INTO about VALUES (?, ?, ?)", (_FORMAT, source, _digest(rows)))
        return rows

    def _read(self) -> list[Row] | None:
        """The rows, or None if the file is not exactly what would be built now."""
        if not self.path.is_file():
            return None
        try:
            with _opened(self.path, "?mode=ro&immutable=1") as database:
                about = database.execute("SELECT format, source, content FROM about").fetchall()
                rows = _select(database)
        except (sqlite3.Error, OSError, UnicodeError):
            return None
        return rows if about == [(_FORMAT, self._source(), _digest(rows))] else None

    def _source(self) -> str:
        """Digest over all run folders: their manifests, and the size and time of each file."""
        digest = hashlib.sha256()
        for folder in run_folders(self.out):
            for path in sorted(folder.rglob("*")):
                with contextlib.suppress(OSError):
                    status = path.stat()
                    facts = (path.relative_to(self.out).as_posix(), status.st_size)
                    digest.update(repr((*facts, status.st_mtime_ns)).encode())
            with contextlib.suppress(OSError):
                digest.update((folder / MANIFEST).read_bytes())
        return digest.hexdigest()


@contextlib.contextmanager
def _opened(path: Path, options: str = "") -> Iterator[sqlite3.Connection]:
    # sqlite3's own context manager commits but does not close.
    with (
        contextlib.closing(
            sqlite3.connect(path.absolute().as_uri() + options, uri=True)
        ) as database,
        database,
    ):
        yield database


def _select(database: sqlite3.Connection) -> list[Row]:
    cursor = database.execute("SELECT * FROM runs ORDER BY folder")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor]


def _scalars(result: Row) -> Row:
    return {
        key: float(value) if isinstance(value, int) and abs(value) > _LARGEST else value
        for key, value in result.items()
        if key != "folder" and (value is None or isinstance(value, (int, float, str)))
    }


def _digest(rows: list[Row]) -> str:
    return hashlib.sha256(json.dumps(rows, default=repr).encode()).hexdigest()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
