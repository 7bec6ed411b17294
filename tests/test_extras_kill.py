"""Kill -9 at twenty random moments of real ladders: nothing is lost, repeated or changed."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ladder_toys import write_text
from runs_toys import kill_9

from mytnano.files import sha256_file
from mytnano.report.data import load_results
from mytnano.runs.store import finished_runs, run_folders

pytestmark = [
    pytest.mark.extras,
    pytest.mark.skipif(os.name != "posix", reason="signals of POSIX"),
]

RUNGS = "bigram,average,attention,block,bpe"
SIZE = "--budget smoke --seeds 4 --workers 2"
KILLS = 20


def command(text: Path, out: Path) -> subprocess.Popen:
    words = (
        f"ladder --corpus {text} --out {out} --budget smoke --seeds 4 --workers 2 --rungs {RUNGS}"
    )
    code = "import ladder_toys; ladder_toys.main()"
    path = [str(Path(__file__).parent), *sys.path]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words.split()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def sealed(out: Path) -> dict[str, tuple]:
    """Every finished run: when it was sealed, and its content."""
    runs, notes = finished_runs(out)
    assert notes == [], "a kill never leaves a damaged run"
    manifests = {run.path.name: run.path / "manifest.json" for run in runs}
    return {name: (p.stat().st_mtime_ns, sha256_file(p)) for name, p in manifests.items()}


def scores(out: Path) -> dict[tuple[str, int], float]:
    rows = json.loads((out / "results.json").read_text())["runs"]
    assert len(rows) == len({(row["rung"], row["seed"]) for row in rows})
    return {(row["rung"], row["seed"]): row["test_bpb"] for row in rows}


def finish(process: subprocess.Popen) -> None:
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error


def wait_for_a_moment(process: subprocess.Popen, out: Path, chance: random.Random) -> None:
    """Until so many more runs have begun, and then a little longer: whatever the machine's load."""
    wanted = len(run_folders(out)) + chance.randrange(4)
    while process.poll() is None and len(run_folders(out)) < wanted:
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 2))


def test_twenty_kills_lose_repeat_and_change_nothing(tmp_path):
    text = write_text(tmp_path / "farm.txt")
    whole = tmp_path / "whole"
    finish(command(text, whole))
    expected = scores(whole)
    assert len(expected) == 20 and None not in expected.values()

    chance = random.Random(0)
    kills = rounds = at_work = half_done = 0
    while kills < KILLS:
        out = tmp_path / f"killed-{rounds}"
        rounds += 1
        while kills < KILLS and len(sealed(out)) < len(expected):
            before = sealed(out)
            process = command(text, out)
            wait_for_a_moment(process, out, chance)
            if process.poll() is not None:
                assert process.returncode == 0, process.communicate()[1]
                break
            at_work += kill_9(process) > 0
            kills += 1
            after = sealed(out)
            assert before.items() <= after.items(), "a finished run was lost or made again"
            half_done += len(run_folders(out)) > len(after)
            if (out / "results.json").exists():
                assert load_results(out).arms, "what is finished can be reported"
        before = sealed(out)
        finish(command(text, out))
        assert before.items() <= sealed(out).items()
        assert scores(out) == expected, "interrupted or not, the same bits"
        assert not list(out.rglob("checkpoint.bin"))
    assert at_work >= 10 and half_done >= 5, "the kills came too early or late to prove anything"
