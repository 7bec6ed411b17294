"""Commands of the documents that take no training, executed as they stand on a toy run."""

import json
import shutil

import pytest
from docs_blocks import commands, inner
from run_toys import toy_folder
from typer.testing import CliRunner

from mytnano.cli import app

RUNS = ("RUN", "out/model", "out/ladder-quick/runs/NAME")
"""What the documents call a run."""

TEXT = "".join(f"We the people of {n} States, to form a more perfect union, {n * n % 97}.\n\n"
               for n in range(1000))  # fmt: skip

pytestmark = pytest.mark.extras


def executed() -> list[list[str]]:
    """The words of each command once, but for those that train, time or need another's data."""
    found = {}
    for place, words in commands():
        verb, *given = inner(words)[1:] or [""]
        looks = verb in ("explain", "plan", "sample", "eval", "export") or (
            (verb == "ablate" and ("--plan" in given or not given))
            or (verb == "claims" and given[:1] != ["run"])
        )
        if inner(words)[0] == "mytnano" and looks and not place.startswith("docs/tour.md"):
            found[verb, *given] = [verb, *given]
    return list(found.values())


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with everything that the documents name."""
    desk = tmp_path_factory.mktemp("desk")
    run = toy_folder(desk / "made", "bpe:300")
    for name in RUNS:
        (desk / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(run, desk / name)
    for name in ("my.txt", "toy"):  # the second is what the toy run says it has read
        (desk / name).write_text(TEXT)
    (desk / "folder").mkdir()
    (desk / "folder" / "one.txt").write_text(TEXT)
    (desk / "prompts.txt").write_text("We the\nThe people\n")
    pair = {"sentence_good": "a man", "sentence_bad": "man a", "linguistics_term": "order"}
    (desk / "blimp/data").mkdir(parents=True)
    (desk / "blimp/data/pairs.jsonl").write_text(json.dumps(pair) + "\n")
    return desk


def test_there_are_some_of_every_kind():
    assert {words[0] for words in executed()} == {
        "ablate", "claims", "eval", "explain", "export", "plan", "sample",
    }  # fmt: skip


@pytest.mark.parametrize("words", executed(), ids=" ".join)
def test_a_command_of_the_documents_runs(words, desk, monkeypatch):
    monkeypatch.chdir(desk)
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0 and done.output, done.output
