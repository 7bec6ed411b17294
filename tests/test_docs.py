"""The documents: their links lead somewhere, nothing is left out, numbers are current."""

import re
import tomllib

import matplotlib
import pytest
import yaml
from docs_blocks import DOCUMENTS
from docs_toys import ROOT, generate
from typer.main import get_command
from typer.testing import CliRunner

from mytnano.cli import app
from mytnano.designs.rungs import RUNGS
from mytnano.ladder.results import COLUMNS
from mytnano.measure.status import Evidence, judge

VERBS = get_command(app).commands
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def slugs(path):
    """The anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_and_is_documented(verb):
    shown = CliRunner().invoke(app, [verb, "--help"])
    assert shown.exit_code == 0 and "Usage" in shown.output
    assert f"mytnano {verb}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        assert not anchor or anchor in slugs(linked), target


def test_every_rung_is_documented_once():
    text = (ROOT / "docs/ladder.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### ([\w-]+)\n\n<!-- generated:rung-([\w-]+) -->$", text, re.MULTILINE)
    # Those of the group long have a section once they are measured, by the generator.
    expected = [id for id, rung in RUNGS.items() if rung.group not in ("depth", "long")]
    assert sorted(sections) == sorted((id, id) for id in expected)
    by_hand = re.sub(r"<!-- generated:.*?<!-- /generated -->", "", text, flags=re.DOTALL)
    assert by_hand.count("How to read it: ") == len(expected)


def test_every_column_is_explained():
    text = (ROOT / "docs/ladder.md").read_text(encoding="utf-8")
    columns = text.partition("## What the columns mean")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", columns, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(COLUMNS)


def test_every_status_is_explained():
    text = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    status = text.partition("## Status")[2].partition("\n## ")[0]
    explained = re.findall(r"^- `(\w+)`: ", status, re.MULTILINE)
    evidence = [
        Evidence(8, bpb, 8.0, 4.5, 3.5, (0.0, 0.0), falling)
        for bpb, falling in ((None, False), (4.5, False), (4.5, True), (2.0, False))
    ]
    assert explained == [judge(each) for each in evidence]


def test_the_architecture_names_every_package_in_layer_order():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    tree = text.partition("```\n")[2].partition("```")[0]
    named = [name for line in tree.splitlines() for name in line[:15].replace(",", " ").split()]
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    assert named == [layer.removeprefix("mytnano.") for layer in layers]


def test_every_dependency_has_its_reason():
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    reasons = " ".join(re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE))
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    names = {re.match(r"[\w-]+", item)[0] for group in groups for item in group}
    assert names <= set(re.findall(r"[\w-]+", reasons))


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_generated_regions_are_current():
    changed = generate.stale(ROOT)
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    if f"matplotlib=={matplotlib.__version__}\n" not in constraints:
        # Another version draws the same figures with other bytes.
        changed = {path: text for path, text in changed.items() if path.suffix != ".svg"}
    assert not changed, "run `make docs`"


def test_nothing_published_was_made_from_a_changed_tree():
    files = [*ROOT.glob("results/**/*.json"), *ROOT.glob("src/mytnano/**/*.json")]
    commits = {
        (path.name, commit)
        for path in files
        for commit in re.findall(r'"commit": ?"([^"]*)"', path.read_text(encoding="utf-8"))
    }
    assert len(commits) > 10
    assert not [each for each in commits if each[1].endswith("+")]


def test_documents_name_no_place_of_the_machine_that_made_them():
    others = [ROOT / "CITATION.cff", ROOT / "mkdocs.yml", *(ROOT / "scripts").rglob("*.py")]
    for path in [*DOCUMENTS, *others]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(home|tmp|root|Users|mnt|opt|work)/", text), path.name
