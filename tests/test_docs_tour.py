"""The tour: its cells run one after the other, and the page shows what they printed."""

import json
import re

import pytest
import run_tour
from docs_toys import MACHINE, ROOT, generate, make_tree
from generator.tables import Project
from generator.tour import FIGURE, FILE, PAGE, about, cells, output
from ladder_toys import write_text

from mytnano.errors import UserError
from mytnano.files import atomic_write_json

TEXT = (ROOT / PAGE).read_text(encoding="utf-8")

SMALLER = {
    "DataConfig()": 'DataConfig(corpus="toy.txt")',
    'data={"window_bytes": 64,': 'data={"corpus": "toy.txt", "window_bytes": 64,',
    "train_bytes=131072": "train_bytes=8192",
    "validation_bytes=16384, test_bytes=32768": "validation_bytes=2048, test_bytes=2048",
    '"bpe:1024"': '"bpe:512"',
    "train_bytes: 65536\n": "train_bytes: 8192\ncorpus: toy.txt\ntuning_seeds: 1\nseeds: 7\n",
    "test_bytes: 65536\nvalidation_bytes: 32768": "test_bytes: 4096\nvalidation_bytes: 4096",
    "mytnano ablate question.yaml": "mytnano ablate question.yaml --workers 0",
    "--minutes 2 width=64": "--bytes 30k --corpus toy.txt layers=1 tokenizer=bpe:300 width=64",
}
"""What the test puts in place of the page's minutes: a small text and few steps."""


def test_python_is_one_session_and_files_are_written(tmp_path):
    page = (
        '```yaml title="a.yaml"\nb: 1\n```\n\n'
        "```sh\ncat a.yaml\n```\n\n<!-- generated:tour-one -->\n"
        "```python\nx = 2\nprint(x)\n```\n\n<!-- generated:tour-two -->\n"
        "```python\nprint(x + 1)\n```\n\n<!-- generated:tour-three -->\n```sh\nnot run\n```\n"
    )
    found = [(ran.cell.name, ran.output) for ran in run_tour.run(page, tmp_path)]
    assert found == [("one", "b: 1"), ("two", "2"), ("three", "3")]


def test_a_cell_that_fails_is_named_and_nothing_is_written(tmp_path, capsys):
    tree = make_tree(tmp_path / "tree")
    page = tree / PAGE
    page.write_text("```python\n1 / 0\n```\n\n<!-- generated:tour-broken -->\n")
    assert run_tour.main([], tree) == 2
    assert "cell 'broken' failed: ZeroDivisionError" in capsys.readouterr().err
    assert not (tree / FILE).exists()
    with pytest.raises(UserError, match="ended with 3"):
        list(run_tour.run("```sh\nexit 3\n```\n\n<!-- generated:tour-a -->\n", tmp_path))


def test_a_cell_that_was_changed_says_so(tmp_path):
    tree = make_tree(tmp_path / "tree")
    project = Project(tree)
    assert "`make tour` does it" in output(project, "claim")
    (source,) = [cell.source for cell in cells(TEXT) if cell.name == "claim"]
    ran = {"source": source, "output": "C13", "seconds": 1.0}
    found = {"environment": MACHINE, "seconds": 120.0, "cells": {"claim": ran}}
    atomic_write_json(tree / FILE, found)
    assert output(project, "claim") == "```text\nC13\n```"
    assert "a toy processor" in about(project) and "2 minutes" in about(project)
    atomic_write_json(tree / FILE, found | {"cells": {"claim": ran | {"source": "mytnano claims"}}})
    assert output(project, "claim").startswith("Printed by an earlier version of the cell")
    assert generate.main([], tree) == 0
    assert "Printed by an earlier version" in (tree / PAGE).read_text(encoding="utf-8")


def test_the_published_tour_is_that_of_the_page():
    found = json.loads((ROOT / FILE).read_text(encoding="utf-8"))
    on_page = {cell.name: cell.source for cell in cells(TEXT) if cell.language != "yaml"}
    assert {name: cell["source"] for name, cell in found["cells"].items()} == on_page
    assert (ROOT / FIGURE).read_text(encoding="utf-8").startswith("<svg")
    assert not found["environment"]["commit"].endswith("+")


def test_every_block_of_the_tour_is_a_cell_but_the_installation():
    blocks = re.findall(r"^```(\w+)", re.sub(r"```text\n.*?```", "", TEXT, flags=re.S), re.M)
    assert len([b for b in blocks if b in ("sh", "python", "yaml")]) == len(cells(TEXT)) + 1


@pytest.mark.extras
def test_the_tour_runs_from_its_first_cell_to_its_last(tmp_path):
    page = TEXT
    for long, short in SMALLER.items():
        assert long in page, long
        page = page.replace(long, short)
    write_text(tmp_path / "toy.txt", 120_000)
    ran = {each.cell.name: each.output for each in run_tour.run(page, tmp_path)}
    assert list(ran) == [c.name for c in cells(TEXT) if c.language != "yaml"]
    assert all(ran.values())
    assert "bigram " in ran["bigram"] and "block 4: gradient" in ran["mechanism"]
    assert re.search(r"average is \w+ than baseline", ran["lab"])
    assert "The people" in ran["sample"] and "config.json" in ran["export"]
    assert (tmp_path / run_tour.ANSWER).exists()
