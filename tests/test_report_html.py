"""The report as a page: whole, self-contained, the same every time, and honest about status."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib as mpl
import pytest
from report_toys import SAMPLE, make_folder

from mytnano.designs.rungs import CORE, RUNGS
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.kept import write_kept
from mytnano.measure import status
from mytnano.report.data import load_results
from mytnano.report.html import page, render, write_report

FEW = ("bigram", "average", "stack", "residual", "logged-lr", "depth-plain-8-0.002")
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Collects ids and references, and insists that every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.tags, self.words = [], [], [], set(), []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(attributes)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)
        self._attributes(attributes)

    def _attributes(self, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "data", "action", "xlink:href", "srcset", "poster"):
                self.references.append(value)
            self.references += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_report(make_folder(tmp_path_factory.mktemp("whole"))).read_text(encoding="utf-8")


@pytest.fixture
def few(tmp_path):
    return make_folder(tmp_path / "few", FEW)


def test_whole_page_shows_every_rung_and_section(whole):
    parsed = Page(whole)
    assert parsed.open == []
    sections = {
        "ladder",
        "table",
        "rungs",
        "as-logged",
        "depth",
        "attention",
        "reading",
        "conditions",
    }
    assert sections <= set(parsed.ids)
    assert {f"rung-{rung.id}" for rung in RUNGS.values() if rung.group != "depth"} <= set(
        parsed.ids
    )
    for name in ("uniform", "unigram", "bigram", "5-gram", "xz", "zstd"):
        assert re.search(rf">{name} \d\.\d\d", whole), name
    assert "a toy processor" in parsed.text and "0123abc" in parsed.text


def test_page_is_self_contained(whole):
    parsed = Page(whole)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {reference.lstrip("#") for reference in parsed.references} <= set(parsed.ids)
    assert all(reference.startswith("#") for reference in parsed.references)
    assert not parsed.tags & {"script", "link", "img", "iframe", "object", "image"}
    assert "http" not in whole and "@import" not in whole and "url(http" not in whole


def test_same_files_give_the_same_bytes(few):
    first = write_report(few).read_bytes()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": True}):
        assert write_report(few).read_bytes() == first
    code = f"from mytnano.report.html import write_report; write_report({str(few)!r})"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert (few / "report.html").read_bytes() == first


def test_text_of_models_and_files_is_escaped(tmp_path):
    folder = make_folder(tmp_path, ["bigram"])
    results = json.loads((folder / "results.json").read_text())
    results["environment"]["hardware"] = "<script>alert(1)</script>"
    results["corpus"]["name"] = '"><img src=http://example.org>'
    (folder / "results.json").write_text(json.dumps(results))
    text = write_report(folder).read_text(encoding="utf-8")
    parsed = Page(text)
    assert not parsed.tags & {"script", "img"}
    assert "have <b>paid</b> & the public credit" in parsed.text
    assert "\x00" in SAMPLE and not set("\x00\x1b") & set(text)


def test_figures_take_the_colours_of_the_page(whole):
    drawings = re.findall(r"<svg.*?</svg>", whole, flags=re.S)
    assert len(drawings) > len(CORE)
    assert not any(re.search(r"#[0-9a-f]{6}\b(?!\")", re.sub(r'#m\w+"', "", d)) for d in drawings)
    assert not any("font-family" in drawing for drawing in drawings)


def test_collapsed_rung_is_struck_and_never_the_lowest(tmp_path):
    folder = make_folder(tmp_path, FEW, statuses={("residual", 1): "collapsed"})
    shown = page(load_results(folder))
    assert shown["best"].rung.id == "bigram"  # residual scores lower, but one seed collapsed
    assert [arm.rung.id for arm in shown["left_out"]] == ["stack", "residual"]
    text = render(load_results(folder))
    mean = load_results(folder).arms["residual"].mean()
    assert f"<s>{mean:.3f}</s>" in text and f"<td>{mean:.3f}</td>" not in text
    assert "1 of 2 collapsed" in Page(text).text
    view = next(view for view in shown["rungs"] if view["rung"].id == "residual")
    assert view["mean_difference"] is None and all(pair.void for pair in view["pairs"])


def test_paired_differences_are_those_of_the_rows(few):
    arms = load_results(few).arms
    expected = [
        a.bpb - b.bpb for a, b in zip(arms["average"].runs, arms["bigram"].runs, strict=True)
    ]
    text = Page(write_report(few).read_text(encoding="utf-8")).text
    for seed, difference in enumerate(expected):
        assert f"seed {seed} +{difference:.3f}" in text
    assert f"mean +{sum(expected) / 2:.3f}" in text
    assert "Two seeds decide nothing." in text


def test_depth_without_test_scores_is_shown_on_validation_text(few):
    grid = page(load_results(few))["depth"]
    assert grid["key"] == "validation_bpb"
    (arm,) = grid["arms"].values()
    text = Page(write_report(few).read_text(encoding="utf-8")).text
    assert arm.mean() is None and f"{arm.mean('validation_bpb'):.3f}" in text
    assert "Bits per byte of the validation text" in text


def test_what_is_beyond_the_ladder_stands_against_the_whole_split(tmp_path):
    folder = make_folder(tmp_path, ["bigram", "mytnano-long"], seeds=1)
    results = load_results(folder)
    shown = page(results)
    assert shown["best"].rung.id == "bigram"
    (view,) = shown["beyond"]
    standing = {name: difference for name, _, difference in view["standing"]}
    expected = results.arms["mytnano-long"].mean() - results.baseline("xz", "full")
    assert standing["xz"] == pytest.approx(expected)
    assert expected != pytest.approx(results.arms["mytnano-long"].mean() - results.baseline("xz"))
    assert "Beyond the ladder" in Page(render(results)).text


def test_diverged_runs_without_scores(tmp_path):
    statuses = {(id, seed): "diverged" for id in RUNGS for seed in range(2)}
    folder = make_folder(tmp_path, [*FEW, "depth-residual-8-0.002"], statuses=statuses)
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "No rung has only healthy seeds with a score" in text
    assert "None" not in text and "nan" not in text.lower().split()


def test_one_diverged_seed_leaves_no_mean(tmp_path):
    folder = make_folder(tmp_path, ["bigram"], statuses={("bigram", 1): "diverged"})
    arm = load_results(folder).arms["bigram"]
    assert arm.mean() is None and arm.status() == "1 of 2 diverged"
    write_report(folder)


def test_one_seed_of_one_rung_without_anything_else(tmp_path):
    folder = make_folder(tmp_path, ["attention"], seeds=1, extras=False, run_folders=False)
    parsed = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "attention" not in parsed.ids and "depth" not in parsed.ids
    assert "rung-attention" in parsed.ids
    assert "average-positions was not run" in parsed.text
    assert "#rung-average-positions" not in parsed.references


def test_a_device_that_does_not_tell_its_memory(few):
    costs = json.loads((few / "attention.json").read_text())
    for row in costs["rows"]:
        row["peak_bytes"] = None
    atomic_write_json(few / "attention.json", costs)
    assert "Cost of attention" in write_report(few).read_text(encoding="utf-8")


def test_rungs_outside_the_core_are_shown_once_and_not_called_the_lowest(tmp_path):
    parsed = Page(write_report(make_folder(tmp_path / "a", ["activations-relu"])).read_text())
    assert "Beyond the ladder" in parsed.text and "rung-activations-relu" in parsed.ids
    assert "No core rung was run." in parsed.text and "No rung was run." not in parsed.text
    logged = ["logged-two-blocks", "logged-dropout"]
    parsed = Page(write_report(make_folder(tmp_path / "b", logged)).read_text())
    assert len(parsed.ids) == len(set(parsed.ids)) and "rung-logged-dropout" in parsed.ids
    assert "has the lowest mean" not in parsed.text
    parsed = Page(write_report(make_folder(tmp_path / "c", ["mytnano", "sizes-small"])).read_text())
    assert "has the lowest mean" not in parsed.text
    parsed = Page(write_report(make_folder(tmp_path / "d", ["rope", "mytnano"])).read_text())
    assert "has the lowest mean of the core rungs" in parsed.text


def test_what_the_best_costs_and_knows_is_said(tmp_path):
    folder = make_folder(tmp_path, ["rope", "mytnano", "mytnano-cl100k"], run_folders=False)
    results = json.loads((folder / "results.json").read_text())
    for row in results["runs"]:
        row["test_bpb"] -= row["rung"] == "mytnano-cl100k"
        row["flops"] = 2e12 if row["rung"] == "mytnano-cl100k" else 1e12
    atomic_write_json(folder / "results.json", results)
    text = Page(render(load_results(folder))).text
    assert "with 2.0 times the training FLOPs of mytnano and" in text
    assert "merges of cl100k_base were learned from other text" in text
    assert "Among the 2 core rungs within 10 % of the training FLOPs" in text


def test_a_run_of_another_commit_is_told(few):
    path = few / "results.json"
    results = json.loads(path.read_text())
    assert "made at commit" not in write_report(few).read_text()
    results["environment"]["commit"] = "4567def"  # of the last command, which made one run only
    for row in results["runs"][1:]:
        row["made"] = {"commit": "0123abc"}
    path.write_text(json.dumps(results))
    page = write_report(few).read_text()
    assert "<td>0123abc</td>" in page, "the conditions of most runs"
    first = results["runs"][0]
    seeds = [row["seed"] for row in results["runs"] if row["rung"] == first["rung"]]
    name = f"{first['rung']} (seed {first['seed']})" if len(seeds) > 1 else first["rung"]
    assert f"{name}: made at commit 4567def on a toy processor" in page


def test_a_page_that_shows_more_is_not_replaced_without_a_word(few):
    whole = write_report(few).read_bytes()
    assert b"runs were not there" not in whole
    shutil.rmtree(few / "runs")
    with pytest.raises(UserError, match=r"the folders of 10 of 10 runs are missing .* --force"):
        write_report(few)
    assert (few / "report.html").read_bytes() == whole
    said = []
    write_report(few, force=True, say=said.append)
    assert said == [f"the folders of 10 of 10 runs are missing in {few}, and with them their "
                    "curves and samples"]  # fmt: skip
    poorer = (few / "report.html").read_bytes()
    assert write_report(few).read_bytes() == poorer and b"runs were not there" in poorer


def test_a_run_without_a_score_has_its_mark(tmp_path):
    statuses = {("average", 0): "diverged", ("average", 1): "diverged"}
    results = load_results(make_folder(tmp_path / "a", ["bigram", "average"], statuses=statuses))
    svg = page(results)["ladder_figure"]
    alone = load_results(make_folder(tmp_path / "b", ["bigram"]))
    assert svg.count("var(--warn)") > page(alone)["ladder_figure"].count("var(--warn)") + 1


def test_definitions_and_captions_are_those_of_the_code_and_the_files(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, ["pre-norm"], seeds=1)
    write_kept(folder / "attention.json", None, json.loads((folder / "attention.json").read_text()))
    monkeypatch.setattr(status, "IGNORES", (0.0625, 0.0078125))
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "by under 0.0625 bits beside a unigram, 0.0078125 beside a bigram" in text
    assert "checksum" not in text and "minutes" not in text
    assert "1 of the 47 runs of this budget are here; not run: core (41 of 42 runs)" in text
    assert "no loss of a model that has learned anything" in text


def test_no_runs_at_all(tmp_path):
    text = Page(write_report(make_folder(tmp_path, [])).read_text(encoding="utf-8")).text
    assert "No rung was run." in text


def test_what_is_not_comparable_says_so(tmp_path):
    marked = make_folder(tmp_path / "smoke", FEW, comparable=False, run_folders=False)
    whole = make_folder(tmp_path / "quick", FEW, run_folders=False)
    assert "Not comparable." in write_report(marked).read_text(encoding="utf-8")
    assert "the first 64 KiB of" in Page(render(load_results(marked))).text
    assert "Not comparable." not in write_report(whole).read_text(encoding="utf-8")


def test_damaged_files_beside_the_results_are_left_out(few):
    for run in (few / "runs").iterdir():
        (run / "metrics.jsonl").write_text('{"bytes": 1, "validation')
        (run / "result.json").write_bytes(b"\xff\xfe")
    (few / "attention.json").write_text("{")
    text = write_report(few).read_text(encoding="utf-8")
    assert "Cost of attention" not in text and "Validation BPB" not in text


def test_numbers_that_are_not_finite_count_as_missing(few):
    path = few / "results.json"
    results = json.loads(path.read_text())
    results["runs"][0]["test_bpb"] = float("nan")
    path.write_text(json.dumps(results))
    assert load_results(few).arms["bigram"].runs[0].bpb is None
    write_report(few)


@pytest.mark.parametrize("content", ["{", "[]", '{"runs": [{}]}', None])
def test_missing_or_damaged_results_are_one_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=r"results\.json"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_row_cannot_point_out_of_its_folder(tmp_path):
    folder = make_folder(tmp_path / "out", ["bigram"], seeds=1)
    results = json.loads((folder / "results.json").read_text())
    name = results["runs"][0]["folder"].split("/")[1]
    (tmp_path / "elsewhere").mkdir()
    (folder / "runs" / name).rename(tmp_path / "elsewhere" / name)
    results["runs"][0]["folder"] = f"../elsewhere/{name}"
    (folder / "results.json").write_text(json.dumps(results))
    assert load_results(folder).arms["bigram"].runs[0].result == {}


def test_rungs_of_another_ladder_are_shown_too(tmp_path):
    folder = make_folder(tmp_path, ["bigram"], seeds=1)
    results = json.loads((folder / "results.json").read_text())
    results["runs"].append({**results["runs"][0], "rung": "of-tomorrow", "group": "extended"})
    (folder / "results.json").write_text(json.dumps(results))
    assert "rung-of-tomorrow" in Page(write_report(folder).read_text(encoding="utf-8")).ids
