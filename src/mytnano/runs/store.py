"""Run folders: the truth about every run, and how to tell whole ones from the rest.

An output folder holds ``runs/<rung>-s<seed>-<hash>/``. Whatever a run writes lies in its own
folder; the last file is ``manifest.json`` with the checksum of every other. So a folder is

* ``finished``    the manifest is there and every file is as it says;
* ``unfinished``  there is no manifest: the run was interrupted and starts again;
* ``damaged``     the manifest is there and something does not match: the folder is moved aside,
  never deleted, and the run starts again.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mytnano.errors import UserError
from mytnano.files import (
    MANIFEST,
    TEMPORARY,
    Condition,
    atomic_write_json,
    disk_full,
    folder_condition,
    sha256_file,
)
from mytnano.run_files import (
    CHECKPOINTS,
    CONFIG,
    DROPPED,
    ERROR,
    LOG,
    METRICS,
    RESULT,
    RUNS,
    drop_checkpoints,
)

_UNSEALED = {MANIFEST, LOG, ERROR}
_MOVED = re.compile(r"\.damaged-\d+$")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: the folder; it need not exist yet.
        hash: hash of the run's config; None when only reading accepts whatever the manifest says.
    """

    path: Path
    hash: str | None = None

    def condition(self) -> Condition:
        """Read and check everything that the manifest lists; costs a read of all files."""
        return folder_condition(self.path, self.hash, RESULT)

    def is_finished(self) -> bool:
        """Whether the run is whole: manifest, every checksum, and the config's hash."""
        return self.condition().state == "finished"

    def start(self, keep: Iterable[str] = ()) -> str | None:
        """Make the folder ready for the run, empty but for the checkpoints of an interrupted one.

        A damaged folder is moved to ``<name>.damaged-N``; what else an interrupted run left is
        deleted, but for what is named in ``keep``.

        Returns:
            A sentence about what was moved aside, or None.

        Raises:
            UserError: the folder cannot be written.
            ValueError: the run is finished; that is the caller's mistake.
        """
        condition = self.condition()
        kept = {*CHECKPOINTS, *keep}
        if condition.state == "finished":
            raise ValueError(f"{self.path} is finished and must not be started again")
        try:
            note = self._move_aside(condition.reason) if condition.state == "damaged" else None
            self.path.mkdir(parents=True, exist_ok=True)
            for left in self.path.iterdir():
                if left.name not in kept:
                    real = left.is_dir() and not left.is_symlink()
                    shutil.rmtree(left) if real else left.unlink()
        except OSError as error:
            reason = error.strerror or error
            raise disk_full(error, self.path) or UserError(
                f"cannot write {self.path}: {reason}; choose a folder that can be written"
            ) from None
        return note

    def finish(self, files: Iterable[str] | None = None) -> dict[str, Any]:
        """Seal the run: write the manifest, after which it counts as finished.

        Only then are its checkpoints dropped: killed at any moment before, it goes on from them.

        Args:
            files: names inside the folder, with ``/`` between parts; by default :meth:`files`.

        Returns:
            The content of ``result.json``.

        Raises:
            FileNotFoundError: a file, or ``result.json``, is missing.
            UserError: the disk is full.
        """
        names = sorted({*(self.files() if files is None else files), RESULT})
        result = self.result()
        sums = {name: sha256_file(self.path / name) for name in names}
        atomic_write_json(self.path / MANIFEST, {"files": sums, "hash": self.hash})
        self.drop_checkpoints()
        return result

    def drop_checkpoints(self) -> None:
        """Delete what a finished run needs no more; a folder that cannot be written is left."""
        drop_checkpoints(self.path)

    def result(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        return json.loads((self.path / RESULT).read_bytes())

    def config(self) -> dict[str, Any]:
        """The content of ``config.json``: the resolved config of the run."""
        return json.loads((self.path / CONFIG).read_bytes())

    def metrics(self) -> list[dict[str, Any]]:
        """The points of ``metrics.jsonl``, in the order written."""
        lines = (self.path / METRICS).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def files(self, free: Iterable[str] = ()) -> list[str]:
        """Names of every file that a manifest vouches for.

        Not of the manifest itself, of ``log.txt`` and ``error.txt``, which other programs may
        still write to, of checkpoints, and of what a killed process left half-written.

        Args:
            free: further files, or whole folders, that are left out.
        """
        outside = _UNSEALED | {*DROPPED} | set(free)
        names = (path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())
        return [
            name.as_posix()
            for name in names
            if name.parts[0] not in outside
            and not any(part.startswith(TEMPORARY) for part in name.parts)
        ]

    def _move_aside(self, reason: str) -> str:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        self.path.rename(aside)
        name = self.path.name
        return f"{name} is damaged ({reason}): moved to {aside.name}, and the run is repeated"


def finished_runs(
    out: Path, without: Collection[str] = ()
) -> tuple[list[RunFolder], list[tuple[Path, str]]]:
    """Every finished run of an output folder, by name, and each damaged folder with the reason.

    Every file is read. Nothing is changed on the disk. A missing folder has no runs.

    Args:
        without: names of run folders that are passed over.
    """
    runs, damaged = [], []
    for path in run_folders(out):
        if path.name in without:
            continue
        condition = RunFolder(path).condition()
        if condition.state == "finished":
            runs.append(RunFolder(path))
        elif condition.state == "damaged":
            damaged.append((path, condition.reason))
    return runs, damaged


def run_folders(out: Path) -> list[Path]:
    """Every run folder of an output folder by name, whatever its condition; none moved aside."""
    root = Path(out) / RUNS
    if not root.is_dir():
        return []
    return sorted(p for p in root.iterdir() if p.is_dir() and not _MOVED.search(p.name))
