"""A group's section: its figure, its table, the origin of every rate, and what is left out."""

import io
import json
import re

import pytest
from report_toys import make_folder
from rich.console import Console

from mytnano.designs.families import BASE
from mytnano.designs.groups import WIDER_GROUPS, rate_of
from mytnano.designs.rungs import KNOWN, design
from mytnano.files import atomic_write_json
from mytnano.report import group_figures
from mytnano.report.data import load_results
from mytnano.report.explain import explain
from mytnano.report.group_figures import tick
from mytnano.report.groups import group_views, rate_words, was_run
from mytnano.report.html import render, write_report

LR = design(BASE).optim.lr


def folder_of(path, *names, rates=True, **toys):
    ids = [id for id in KNOWN if any(id in WIDER_GROUPS[name].ids for name in names)]
    make_folder(path, ids, **toys)
    if rates:
        entry = {"lr": LR, "flat": False, "interior": True, "points": [[1e-3, 2.0]] * 3}
        tuned = {id: entry for id in ids if id != BASE and rate_of(KNOWN[id]) == "tuned"}
        atomic_write_json(path / "group_rates.json", {"rungs": tuned})
    return path


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("whole"), *WIDER_GROUPS)


@pytest.fixture(scope="module")
def html(whole):
    return write_report(whole).read_text(encoding="utf-8")


def test_every_group_has_a_section_with_each_member(html):
    for group in WIDER_GROUPS.values():
        section = html.partition(f'id="group-{group.name}"')[2].partition("</article>")[0]
        assert "<svg" in section and group.question in section
        for id in group.ids:
            assert f"<code>{id}</code>" in section
        for name in group.verdicts:
            assert f"mytnano ablate {name}" in section
        assert ("No question of the lab" in section) == (not group.verdicts)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_a_group_with_a_middle_of_its_own_is_said_to_have_it(html):
    own = [group for group in WIDER_GROUPS.values() if group.base != BASE]
    said = [f"{group.title.lower()} (compared with {group.base} )" for group in own]
    assert own and f"which is a point of each but {', '.join(said)}. The figures" in text_of(html)


def test_same_files_give_the_same_bytes(tmp_path):
    folder = folder_of(tmp_path, "dropout", "positions", run_folders=False)
    assert write_report(folder).read_bytes() == write_report(folder).read_bytes()


def test_extended_rungs_have_no_articles_of_their_own(html):
    articles = re.findall(r'id="rung-([\w-]+)"', html)
    assert articles == [BASE, f"{BASE}-cl100k"]


def test_a_dot_for_every_seed_and_a_struck_one_for_what_failed(tmp_path, monkeypatch):
    marks, mark = [], group_figures.mark
    monkeypatch.setattr(group_figures, "mark", lambda *given: marks.append(given) or mark(*given))
    statuses = {("positions-none", 0): "collapsed", ("positions-alibi", 1): "diverged"}
    results = load_results(folder_of(tmp_path, "positions", statuses=statuses))
    (view,) = group_views(results)
    svg = str(view["figure"])
    ids = [line["arm"].rung.id for line in view["rows"]]
    struck = [ids[row] for _, _, row, healthy, _ in marks if not healthy]
    assert len(marks) == 8 and sorted(struck) == ["positions-alibi", "positions-none"]
    assert "collapsed" in svg and "diverged" in svg
    lines = {line["arm"].rung.id: line for line in view["rows"]}
    assert lines["positions-alibi"]["arm"].mean() is None, "no survivor's mean"
    first, second = lines["positions-none"]["pairs"]
    assert first.void and not second.void


@pytest.fixture(scope="module")
def results(whole):
    return load_results(whole)


@pytest.fixture(scope="module")
def views(results):
    return {view["group"].name: view for view in group_views(results)}


def test_differences_are_to_what_a_rung_is_compared_with(results, views):
    lines = {line["arm"].rung.id: line for view in views.values() for line in view["rows"]}
    assert lines["activations-relu"]["other"] is None and lines["activations-relu"]["pairs"]
    assert lines["tying-tied"]["other"] == "inits-gpt2"
    tokenizers = views["tokenizers"]
    assert tokenizers["base"] == "tokenizers-8192"
    for id in ("tokenizers-512", "tokenizers-512-flops", f"{BASE}-cl100k"):
        assert lines[id]["other"] is None, "the group's own base, as the table's head says"
        mine, base = (results.arms[each].runs[0].bpb for each in (id, tokenizers["base"]))
        assert lines[id]["pairs"][0].difference == pytest.approx(mine - base)
    assert lines[tokenizers["base"]]["pairs"] == []
    assert lines[BASE]["pairs"] == []
    own, other = (results.arms[id].runs[0].bpb for id in ("tying-tied", "inits-gpt2"))
    assert lines["tying-tied"]["pairs"][0].difference == pytest.approx(own - other)


def test_every_rate_says_where_it_is_from(results, tmp_path):
    words = {id: rate_words(results, arm) for id, arm in results.arms.items()}
    assert words[BASE] == "the ladder’s"
    assert words["inits-gpt2"] == "tuned: 3 rates, interior"
    assert words["kv-heads-mqa"] == "mytnano’s, which gqa did not move"
    assert words["tokenizers-char-flops"] == "tokenizers-char’s, scaled by the bytes"
    bare = load_results(folder_of(tmp_path, "inits", rates=False))
    assert rate_words(bare, bare.arms["inits-gpt2"]) == "not recorded"
    bare.group_rates["inits-gpt2"] = {"lr": 2 * LR, "flat": False, "interior": True, "points": []}
    assert rate_words(bare, bare.arms["inits-gpt2"]) == "not recorded", "another rate's origin"


def test_both_views_of_the_tokenizers_and_the_same_run_in_both(views):
    svg = str(views["tokenizers"]["figure"])
    assert "equal bytes" in svg and "equal FLOPs" in svg
    for label in ("byte", "char", "cl100k", "512", "8k", "30k"):
        assert svg.count(f">{label}<") == 2, label
    assert ">dropout 0.1<" in str(views["dropout"]["figure"])


def edited(folder, change):
    path = folder / "results.json"
    results = json.loads(path.read_text())
    for row in results["runs"]:
        change(row, results)
    atomic_write_json(path, results)
    return load_results(folder)


def test_equal_flops_are_those_of_the_size_that_the_text_supports(tmp_path):
    ids = ["tokenizers-512", "tokenizers-2048", "tokenizers-512-flops", "tokenizers-byte-flops"]
    flops = {"tokenizers-512": 3e12}
    folder = make_folder(tmp_path, ids, run_folders=False)
    results = edited(folder, lambda row, _: row.update(flops=flops.get(row["rung"], 5e12)))
    (view,) = group_views(results)
    others = {line["arm"].rung.id: line["other"] for line in view["rows"]}
    assert others["tokenizers-byte-flops"] == "tokenizers-2048"
    assert "equal FLOPs, those of 2,048 tokens" in str(view["figure"])


def test_how_often_the_text_was_read_is_what_was_read(tmp_path):
    folder = make_folder(tmp_path, [BASE, "dropout-0.1", "dropout-16-epochs"], run_folders=False)
    (view,) = group_views(load_results(folder))
    labels = [line["label"] for line in view["rows"]]
    assert labels == ["dropout 0, read 1 x", "dropout 0.1, read 1 x", "dropout 0, read 16 x"]
    small = lambda row, results: results["corpus"]["bytes"].update(train=2**18)
    (view,) = group_views(edited(folder, small))
    assert [line["label"] for line in view["rows"]][:2] == [
        "dropout 0, read 4 x", "dropout 0.1, read 4 x",
    ]  # fmt: skip


def test_a_group_without_its_own_rungs_is_not_shown(tmp_path):
    results = load_results(make_folder(tmp_path, [BASE, "logged-final-init"], seeds=1))
    assert not any(was_run(results, group) for group in WIDER_GROUPS.values())
    assert "groups" not in re.findall(r'\bid="([^"]+)"', render(results))


@pytest.mark.parametrize("name", ["positions", "tokenizers"])
def test_a_page_of_a_group_alone_begins_with_it(tmp_path, name):
    alone = render(load_results(folder_of(tmp_path / "alone", name, seeds=1)))
    shown = re.findall(r'<section id="([^"]+)"', alone)
    assert shown[:2] == ["groups", "rungs"] and not {"ladder", "table", "as-logged"} & set(shown)
    assert f"<h1>{WIDER_GROUPS[name].question}</h1>" in alone
    assert set(re.findall(r'href="#([^"]+)"', alone)) <= set(re.findall(r'\bid="([^"]+)"', alone))
    ids = [*WIDER_GROUPS[name].ids, "bigram", "logged-final-init"]
    beside = render(load_results(make_folder(tmp_path / "beside", ids, seeds=1)))
    shown = re.findall(r'<section id="([^"]+)"', beside)
    assert shown.index("ladder") < shown.index("as-logged") < shown.index("groups")


def test_what_was_not_run_is_named_and_the_rest_shown(tmp_path):
    html = render(load_results(make_folder(tmp_path, [BASE, "positions-none"], seeds=1)))
    assert "Not among the results: learned, ALiBi." in text_of(html)


def test_explain_shows_an_extended_rung():
    printed = io.StringIO()
    Console(file=printed, width=100).print(explain("activations-relu"))
    said = printed.getvalue()
    assert "SwiGLU → relu" in said and "model.ffn" in said and "relu" in said


def test_ticks():
    assert [tick(x) for x in (1, 0.5, 512, 1024, 32_768, 393_216, 26_341)] == [
        "1", "0.5", "512", "1k", "32k", "384k", "26.3 k",
    ]  # fmt: skip
