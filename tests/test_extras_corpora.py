"""Other texts work as well as the default: one file of plays, and a folder of novels."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from ladder_toys import request
from rich.console import Console

from mytnano.ladder.run import climb
from mytnano.report.html import write_report

DATA = Path(__file__).parents[1].parent / "shared" / "data"
PLAYS, NOVELS = DATA / "tiny-shakespeare.txt", DATA / "novels.tar.xz"
RUNGS = ("bigram", "block", "cl100k", "mytnano")

pytestmark = [
    pytest.mark.extras,
    pytest.mark.skipif(not (PLAYS.exists() and NOVELS.exists()), reason="needs the shared texts"),
]


@pytest.fixture(scope="module")
def novels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("novels")
    with tarfile.open(NOVELS) as archive:
        archive.extractall(folder, filter="data")
    return folder


def ladder(corpus, out):
    printed = io.StringIO()
    wanted = request(corpus, out, *RUNGS, workers=1)
    assert climb(wanted, Console(file=printed, width=120)) == 0
    results = json.loads((out / "results.json").read_text())
    assert [row["rung"] for row in results["runs"]] == list(RUNGS)
    assert all(0 < row["test_bpb"] < 8 for row in results["runs"])
    assert write_report(out).stat().st_size > 50_000
    return results, printed.getvalue()


def test_a_single_file(tmp_path):
    results, printed = ladder(PLAYS, tmp_path)
    assert results["corpus"]["name"] == PLAYS.name
    assert sum(results["corpus"]["bytes"].values()) == PLAYS.stat().st_size
    assert "was cut, at blank lines where there are any, into" in printed
    by_rung = {row["rung"]: row["test_bpb"] for row in results["runs"]}
    assert by_rung["mytnano"] < by_rung["bigram"]


def test_a_folder(novels, tmp_path):
    results, printed = ladder(novels, tmp_path)
    assert results["corpus"]["name"] == novels.name
    assert "Near-duplicates: " in printed
    files = [path for path in novels.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert sum(results["corpus"]["bytes"].values()) == sum(p.stat().st_size for p in files)
