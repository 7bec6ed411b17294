"""Both commands of the README, timed in a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from generator.sources import COMMANDS_FILE

from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from publisher.files import json_of
from publisher.ladders import checked, publish_ladder

TIMED = ("make ladder", "make test")
QUICK = "out/ladder-quick"
DEPTHS = "ARGS=--rungs depth"


def measure_fresh(root: Path, words: list[str], note: str = "", only: str = "") -> None:
    """Clone, time both commands or one of them, and publish what the ladder left.

    Each time is written when it is known. The clone is kept if a command fails.
    """
    clone = Path(tempfile.mkdtemp(prefix="mytnano-")) / "clone"
    subprocess.run(["git", "clone", "--quiet", root, clone], check=True)
    ladder, tests = TIMED
    try:
        if only != tests:
            timed = run_timed(ladder, clone, words)
            made = checked(clone / QUICK)["environment"]
            keep_time(root, timed, note, made)
            # The cells of the depth figure, which `make ladder` leaves out.
            run_timed(ladder, clone, [*words, DEPTHS])
            publish_ladder(clone / QUICK, root)
        if only != ladder:
            keep_time(root, run_timed(tests, clone, words), note)
    except UserError as error:
        raise UserError(f"{error}; it is kept in {clone}") from None
    shutil.rmtree(clone.parent)


def keep_time(root: Path, timed: dict, note: str, environment: dict | None = None) -> None:
    """Write how long a command took beside what is known of the other one."""
    found = json_of(root / COMMANDS_FILE)
    others = {each["command"]: each for each in found.get("commands", [])}
    by_name = others | {timed["command"]: timed | ({"note": note} if note else {})}
    atomic_write_json(
        root / COMMANDS_FILE,
        {
            "environment": environment or found.get("environment", {}),
            "commands": [by_name[name] for name in TIMED if name in by_name],
        },
    )


def run_timed(command: str, folder: Path, words: list[str]) -> dict[str, Any]:
    """Run a command, showing its output; its seconds and the last line that it printed.

    Raises:
        UserError: it failed.
    """
    print(f"$ {' '.join([command, *words])}", flush=True)
    started, last = time.monotonic(), ""
    # Under make itself, what it hands down would make the inner one print that it enters folders.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    with subprocess.Popen(
        [*command.split(), *words],
        cwd=folder,
        env=outside,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last = line.strip() or last
    if process.returncode:
        raise UserError(f"`{command}` ended with exit code {process.returncode} in a fresh clone")
    # A path of this machine's temporary folder says nothing elsewhere.
    last = re.sub(re.escape(str(folder)) + "/?", "", last)
    seconds = time.monotonic() - started
    words = ["git", "rev-parse", "--short=12", "HEAD"]
    head = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout
    return {"command": command, "seconds": seconds, "last_line": last, "commit": head.strip()}
