"""The pages of the claims, and the figures drawn from evidence."""

import csv
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from docs_toys import ROOT, fill_tree, generate, make_tree
from generator.claim_pages import IMAGES, PAGES, pages
from generator.tables import Project

from mytnano.claims.ledger import ledger
from mytnano.files import atomic_write_json

ARM = {
    "sentence": "stack-4 is better than baseline by 3.0 % [2.0, 4.0], 4 paired seeds, p = 0.001",
    "name": "stack-4", "verdict": "better", "difference": -3.0, "low": -4.0, "high": -2.0,
    "p_adjusted": 0.001, "pairs": 4, "detectable_percent": None,
    "factors": ["model.layers: 1 -> 4"], "prediction": "collapsed", "as_predicted": False,
}  # fmt: skip


@pytest.fixture
def tree(tmp_path):
    root = make_tree(tmp_path / "tree")
    fill_tree(root)
    return root


def put_depth(root, **changes):
    """Evidence that four blocks are better, with the runs beside it."""
    others = ("stack-2", "norm-only-4", "residual-4", "pre-norm-4")
    arms = [ARM | changes, *(ARM | {"name": name, "verdict": "collapsed"} for name in others)]
    design = {"bpb": 2.0, "seeds": 4, "params": 1000, "flops": 1e9, "lr": 0.004, "lr_fair": True}
    found = {
        "question": "Does depth help?", "arms": arms, "designs": {"baseline": design},
        "more": {"stack-4": {"gradient_ratio": 2.0, "rank": 0.3}}, "rule": {"margin": 0.3},
        "run_minutes": 12.0, "runs": 9, "environment": {"hardware": "a toy", "commit": "0123abc"},
    }  # fmt: skip
    atomic_write_json(root / "src/mytnano/claims/evidence/depth.json", found)
    path = root / "results/claims/depth/results.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["arm", "seed", "metric", "status"])
        for seed in range(4):
            rows.writerow(["baseline", seed, 2.0, "healthy"])
            rows.writerow(["stack-4", seed, 1.94 + 0.001 * seed, "healthy"])


def text_of(root, id):
    return pages(Project(root))[f"{PAGES}/{id}.md"]


def test_every_claim_has_a_page_and_the_overview_leads_to_it(tree):
    found = pages(Project(tree))
    assert {f"{PAGES}/{id}.md" for id in ledger()} <= set(found)
    overview = (ROOT / "docs/claims.md").read_text(encoding="utf-8")
    for id, claim in ledger().items():
        assert f"[{id}](claims/{id}.md)" in overview
        text = found[f"{PAGES}/{id}.md"]
        assert claim.says in text and claim.printed in text and claim.needs in text


def test_a_page_follows_its_evidence(tree):
    before = text_of(tree, "C13")
    assert "**Verdict: not run.**" in before and "![" not in before
    put_depth(tree)
    text = text_of(tree, "C13")
    assert "**Verdict: refuted.**" in text
    assert "holds, with probability 0.9; this came out wrong (Brier 0.81)" in text
    assert "| `stack-4` | model.layers: 1 -> 4 | **better** | -3.00 [-4.00, -2.00] |" in text
    assert (
        "9 runs, tuning included, took 12 minutes in all by the clock" in text
        and "commit `0123abc`" in text
    )
    assert f"](../img/{IMAGES.rpartition('/')[2]}/depth.svg)" in text
    assert "mytnano claims run C13" in text and "\nmatch: bytes\n" in text


def test_a_number_of_the_log_that_it_never_measured_is_named(tree):
    assert re.search(r"2\.4578 is in none of the \d+ rows", text_of(tree, "C5"))
    assert "in none of" not in text_of(tree, "C2"), "2.4640 is a row of the log's results.csv"


def test_the_figure_shows_every_seed_and_is_the_same_every_time(tree):
    put_depth(tree)
    name = f"{IMAGES}/depth.svg"
    drawn = pages(Project(tree))[name]
    assert drawn == pages(Project(tree))[name]
    words = "".join(ElementTree.fromstring(drawn).itertext())
    assert "stack-4" in words and "−3.0 % [−4.0, −2.0]" in words and "collapsed" in words
    fewer = tree / "results/claims/depth/results.csv"
    fewer.write_text("".join(fewer.read_text().splitlines(keepends=True)[:-2]))
    assert pages(Project(tree))[name].count("<use") < drawn.count("<use")


def test_an_interval_without_end_is_drawn_without_one(tree):
    put_depth(tree, low=None, high=None)
    drawn = pages(Project(tree))[f"{IMAGES}/depth.svg"]
    assert "−3.0 %" in drawn and "[" not in "".join(ElementTree.fromstring(drawn).itertext())


def test_pages_and_figures_that_lose_their_reason_are_deleted(tree):
    put_depth(tree)
    assert generate.main([], tree) == 0
    stray = tree / PAGES / "C999.md"
    stray.write_text("nobody claims this")
    figure = tree / IMAGES / "depth.svg"
    assert figure.exists()
    (tree / "src/mytnano/claims/evidence/depth.json").unlink()
    assert generate.main([], tree) == 0
    assert not stray.exists() and not figure.exists()
    assert "**Verdict: not run.**" in (tree / PAGES / "C13.md").read_text()


def test_every_published_verdict_says_where_it_was_measured():
    for path in (ROOT / PAGES).glob("*.md"):
        text = path.read_text(encoding="utf-8")
        for source in re.findall(r"`(src/mytnano/claims/evidence/\w[\w-]*\.json)`", text):
            made = json.loads((ROOT / source).read_text(encoding="utf-8"))["environment"]
            assert made["commit"] in text and made["hardware"] in text, (path.name, source)
