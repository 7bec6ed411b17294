"""Publishing: what is copied into the tree, what is refused, and what the documents then say."""

import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from docs_toys import fill_tree, make_tree, publish
from generator.regions import regions
from generator.tables import Project
from publisher import fresh
from report_toys import make_folder

from mytnano.files import atomic_write_json


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree")


@pytest.fixture
def filled(tree):
    fill_tree(tree)
    return tree


def test_publishing_copies_the_files_of_a_ladder(tree, tmp_path):
    out = make_folder(tmp_path / "out", ("bigram", "mytnano"), extras=False)
    (out / "report.html").write_text("<p>report</p>")
    old = tree / "results/ladder/quick/baselines.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    assert publish.main(["ladder", str(out)], tree) == 0
    names = {path.name for path in (tree / "results/ladder/quick").iterdir()}
    assert names == {"results.json", "report.html"}, "what this ladder does not have goes"
    assert "0123abc" in (tree / "README.md").read_text()


def test_fewer_runs_than_are_published_need_a_word_more(tree, tmp_path, capsys):
    whole = make_folder(tmp_path / "whole", ("bigram", "mytnano"), extras=False)
    part = make_folder(tmp_path / "part", ("bigram",), extras=False)
    published = tree / "results/ladder/quick/results.json"
    assert publish.main(["ladder", str(whole)], tree) == 0
    assert publish.main(["ladder", str(part)], tree) == 2
    assert "lacks 2 of the 4 published runs" in capsys.readouterr().err
    assert published.read_bytes() == (whole / "results.json").read_bytes()
    assert publish.main(["ladder", str(part), "--replace"], tree) == 0
    assert published.read_bytes() == (part / "results.json").read_bytes()


def test_a_part_is_added_to_what_another_machine_has_published(tree, tmp_path):
    whole = make_folder(tmp_path / "whole", ("bigram", "mytnano"), extras=False)
    part = make_folder(tmp_path / "part", ("bigram", "pre-norm"), extras=False)
    assert publish.main(["ladder", str(whole)], tree) == 0
    elsewhere = json.loads((part / "results.json").read_text())
    elsewhere["environment"] |= {"commit": "4567def", "hardware": "another"}
    for row in elsewhere["runs"]:
        row["seconds"] += 1
    atomic_write_json(part / "results.json", elsewhere)
    assert publish.main(["ladder", str(part), "--add"], tree) == 0
    folder = tree / "results/ladder/quick"
    rows = json.loads((folder / "results.json").read_text())["runs"]
    assert [row["rung"] for row in rows] == [*2 * ["bigram"], *2 * ["pre-norm"], *2 * ["mytnano"]]
    assert [row.get("made", {}).get("commit") for row in rows] == 4 * [None] + 2 * ["0123abc"]
    lines = (folder / "results.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [row["rung"] for row in rows]
    assert (folder / "results.json").read_bytes() != (part / "results.json").read_bytes()


def test_whoever_adds_all_core_runs_brings_the_report(tree, tmp_path):
    earlier = make_folder(tmp_path / "earlier", ("bigram", "logged-lr"), extras=False)
    whole = make_folder(tmp_path / "whole", ("bigram", "mytnano"))
    assert publish.main(["ladder", str(earlier)], tree) == 0
    before = {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    assert publish.main(["ladder", str(whole), "--add"], tree) == 0
    assert before == {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    folder = tree / "results/ladder/quick"
    assert (folder / "baselines.json").read_bytes() == before["baselines.json"]
    page = (folder / "report.html").read_text()
    assert "logged-lr" in page and "mytnano" in page


def test_runs_that_were_published_before_keep_their_commit(tree, tmp_path, capsys):
    out = make_folder(tmp_path / "out", ("bigram", "mytnano"), extras=False)
    assert publish.main(["ladder", str(out)], tree) == 0
    later = json.loads((out / "results.json").read_text())
    later["environment"]["commit"] = "4567def"
    (again,) = (row for row in later["runs"] if (row["rung"], row["seed"]) == ("mytnano", 1))
    again["seconds"] += 1
    atomic_write_json(out / "results.json", later)
    assert publish.main(["ladder", str(out)], tree) == 0
    rows = json.loads((tree / "results/ladder/quick/results.json").read_text())["runs"]
    assert [row.get("made") for row in rows] == [{"commit": "0123abc"}] * 3 + [None]
    later["runs"][0]["made"] = {"commit": "4567def+"}
    atomic_write_json(out / "results.json", later)
    assert publish.main(["ladder", str(out)], tree) == 2
    assert "made from a changed tree" in capsys.readouterr().err


def test_publishing_an_answer_of_the_lab(tree, filled, tmp_path, capsys):
    folder = tmp_path / "ablate-gelu"
    answer = json.loads((filled / "results/lab/swiglu/answer.json").read_text())
    atomic_write_json(folder / "answer.json", answer | {"final": False})
    (folder / "results.csv").write_text("arm,seed\n")
    assert publish.main(["answer", str(folder)], tree) == 2
    assert "not final" in capsys.readouterr().err
    atomic_write_json(folder / "answer.json", answer | {"final": True})
    assert publish.main(["answer", str(folder)], tree) == 0
    names = {path.name for path in (tree / "results/lab/gelu").iterdir()}
    assert names == {"answer.json", "results.csv"}


def test_publishing_groups_gives_each_its_own_rows(tree, tmp_path):
    rest = ("kv-heads-mha", "kv-heads-mqa", "positions-none", "positions-learned")
    part = ("inits-gpt2",)  # one rung of five: that group stays unpublished
    out = make_folder(tmp_path / "out", ("bigram", "mytnano", *rest, "positions-alibi", *part))
    write_results_csv(out)
    atomic_write_json(out / "decode.json", {"rows": []})
    rates = {id: {"lr": 0.002} for id in ("positions-none", "inits-gpt2")}
    atomic_write_json(out / "group_rates.json", {"rungs": rates})
    assert publish.main(["groups", str(out)], tree) == 0
    heads = tree / "results/groups/quick/kv-heads"
    places = tree / "results/groups/quick/positions"
    assert sorted(p.name for p in heads.parent.iterdir()) == ["kv-heads", "positions"]
    found = json.loads((heads / "results.json").read_text())
    assert {row["rung"] for row in found["runs"]} == {"mytnano", *rest[:2]}
    lines = (places / "results.csv").read_text().splitlines()
    kinds = ("learned", "alibi", "none")
    assert {line.split(",")[0] for line in lines[1:]} == {
        "mytnano", *(f"positions-{kind}" for kind in kinds)
    }  # fmt: skip
    own = json.loads((places / "group_rates.json").read_text())["rungs"]
    assert set(own) == {"positions-none"}
    assert (heads / "decode.json").exists() and not (places / "decode.json").exists()
    assert 'id="group-kv-heads"' in (heads / "report.html").read_text()
    results = json.loads((out / "results.json").read_text())
    earlier = {"commit": "beef", "hardware": "an older one"}
    results["runs"] = [row | {"made": earlier} for row in results["runs"]]
    atomic_write_json(out / "results.json", results)
    later = json.loads((out / "group_rates.json").read_text()) | {"environment": {"commit": "new"}}
    atomic_write_json(out / "group_rates.json", later)
    assert publish.main(["groups", str(out)], tree) == 0
    again = json.loads((heads / "results.json").read_text())
    assert again["environment"] == found["environment"] | earlier
    assert [row for row in again["runs"] if "made" in row] == []
    assert "environment" not in json.loads((places / "group_rates.json").read_text())
    shown = (tree / "docs/groups.md").read_text().partition("At budget `quick`")[2]
    assert "| MHA, 4 heads | " in shown.partition("## ")[0] and "beef" in shown


def write_results_csv(out):
    rows = json.loads((out / "results.json").read_text())["runs"]
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    (out / "results.csv").write_text("\n".join(lines) + "\n")


def test_a_folder_without_a_group_publishes_none(tree, tmp_path, capsys):
    out = make_folder(tmp_path / "out", ("bigram", "mytnano"))
    write_results_csv(out)
    assert publish.main(["groups", str(out)], tree) == 2
    assert "has no results of a whole extended group" in capsys.readouterr().err


def test_publishing_a_model(tree, filled, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(filled / "results/models/mytnano-nano", run)
    assert publish.main(["model", str(run)], tree) == 2
    assert "holds no finished model" in capsys.readouterr().err, "it does not say whose it is"
    result = json.loads((run / "result.json").read_text()) | {"rung": "mytnano", "size": "micro"}
    atomic_write_json(run / "result.json", result)
    (run / "model.safetensors").write_text("large")
    assert publish.main(["model", str(run)], tree) == 0
    published = tree / "results/models/mytnano-micro"
    assert {path.name for path in published.iterdir()} == {
        "result.json", "metrics.jsonl", "samples.jsonl",
    }  # fmt: skip
    assert ElementTree.parse(tree / "docs/img/models.svg").getroot().tag.endswith("svg")
    assert "| `mytnano-micro` | 1 M | 4.2 MB | 1.500 |" in regions()["models"](Project(tree))
    assert "> The people of the toys" in regions()["models-samples"](Project(tree))


def test_publishing_what_a_script_about_larger_models_wrote(filled, tmp_path, capsys):
    published = filled / "results/scale/loader.json"
    file = tmp_path / published.name
    measured = json.loads(published.read_text())
    for commit, said in (("abc+", "made from a changed tree"), ("abc", "")):
        changed = {"environment": measured["environment"] | {"commit": commit}}
        atomic_write_json(file, measured | changed)
        assert publish.main(["scale", str(file)], filled) == (2 if said else 0)
        assert said in capsys.readouterr().err
    assert published.read_bytes() == file.read_bytes()
    assert publish.main(["scale", str(tmp_path / "other.json")], filled) == 2
    assert "is none of gpu.json, loader.json, lr_transfer.json, whole" in capsys.readouterr().err


def test_what_is_no_measurement_of_a_gpu_is_refused(filled, tmp_path, capsys):
    kept = filled / "results/scale/gpu.json"
    whole = json.loads(kept.read_text())
    file, before = tmp_path / "gpu.json", kept.read_bytes()
    elsewhere = {"environment": whole["agree"]["environment"] | {"device": "cpu"}}
    for part, said in (
        ({"smoke": True}, "is of --smoke, means nothing and is not published"),
        (elsewhere, "is not of a GPU throughout"),
        ({"environment": {}}, "is missing or damaged"),
    ):
        atomic_write_json(file, whole | {"agree": whole["agree"] | part})
        assert publish.main(["scale", str(file)], filled) == 2
        assert said in capsys.readouterr().err and kept.read_bytes() == before
    atomic_write_json(file, whole)
    assert publish.main(["scale", str(file)], filled) == 0
    smoke = tmp_path / "lr_transfer.json"
    rates = json.loads((filled / "results/scale/lr_transfer.json").read_text())
    atomic_write_json(smoke, rates | {"smoke": True})
    assert publish.main(["scale", str(smoke)], filled) == 2


def test_publishing_a_forecast(tree, tmp_path, capsys):
    out = tmp_path / "forecast"
    found = {"budget": "smoke", "corpus": "toys", "rates": {"d16": 0.004}}
    found |= {"sentences": ["4 runs in 2 cells", "gate FAILED: of *toys*"]}
    found |= {"gate": None, "best": "power", "forms": {"power": {"parameters": {"alpha": 0.3}}}}
    found["environments"] = [{"hardware": "toy", "commit": "abc", "date": "2026-01-01"}]
    for budget, commit, said in (
        ("smoke", "abc", "of budget smoke means nothing"),
        ("full", "abc+", "made from a changed tree"),
        ("full", "abc", ""),
    ):
        environments = [each | {"commit": commit} for each in found["environments"]]
        changed = {"budget": budget, "environments": environments}
        atomic_write_json(out / "forecast.json", found | changed)
        (out / "runs.csv").write_text("params,bytes,bpb,seed\n")
        (out / "forecast.svg").write_text("<svg/>")
        assert publish.main(["forecast", str(out)], tree) == (2 if said else 0)
        assert said in capsys.readouterr().err
    assert (tree / "docs/img/forecast.svg").read_text() == "<svg/>"
    assert (tree / "results/scale/forecast/runs.csv").exists()
    region = regions()["forecast"](Project(tree))
    assert "- gate FAILED: of \\*toys\\*" in region and "0.004 (d16)" in region
    assert "(img/forecast.svg)" in region and "commit `abc`" in region
    (out / "forecast.json").unlink()
    assert publish.main(["forecast", str(out)], tree) == 2


def test_publishing_another_precision(tree, tmp_path):
    out = make_folder(tmp_path / "out", ("bigram",), extras=False)
    assert publish.main(["precision", str(out)], tree) == 0
    folder = tree / "results/precision/quick-fp32"
    assert [path.name for path in folder.iterdir()] == ["results.json"]
    assert not (tree / "results/ladder").exists()
    for words in (["precision"], [str(out)], []):
        with pytest.raises(SystemExit):
            publish.main(words, tree)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        ({"comparable": False}, "not comparable"),
        ({"environment": {"commit": "0123abc+"}}, "changed tree"),
        ({"environment": {"commit": None}}, "changed tree"),
        ({"environment": None}, "damaged"),
        ({"corpus": {"name": "my.txt"}}, "of my.txt, but published results are of sotu"),
    ],
)
def test_what_must_not_be_published_is_refused(tree, tmp_path, spoil, word, capsys):
    out = make_folder(tmp_path / "out", ("bigram",), run_folders=False)
    results = json.loads((out / "results.json").read_text())
    atomic_write_json(out / "results.json", results | spoil)
    assert publish.main(["ladder", str(out)], tree) == 2
    assert word in capsys.readouterr().err
    assert not (tree / "results").exists()


needs_tools = pytest.mark.skipif(
    not (shutil.which("git") and shutil.which("make")), reason="needs git and make"
)


def commit_a_toy_project(tree, tmp_path, test="@echo 7 passed"):
    make_folder(tmp_path / "measured", ("bigram", "mytnano"), run_folders=False)
    (tree / "Makefile").write_text(
        f"ladder:\n\tmkdir -p {fresh.QUICK}\n\tcp {tmp_path}/measured/* {fresh.QUICK}\n"
        f"\t@echo report: {fresh.QUICK}/report.html\ntest:\n\t{test}\n"
    )
    who = ["-c", "user.name=toy", "-c", "user.email=toy@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "toy"]):
        subprocess.run(["git", *who, *command], cwd=tree, check=True)


@needs_tools
def test_a_fresh_clone_is_timed_and_published(tree, tmp_path):
    commit_a_toy_project(tree, tmp_path)
    assert publish.main(["fresh", "PIP_ARGS=-q"], tree) == 0
    timed = json.loads((tree / "results/commands.json").read_text())
    assert [c["command"] for c in timed["commands"]] == ["make ladder", "make test"]
    assert timed["commands"][1]["last_line"] == "7 passed"
    assert "| `make test` | 0.0 min | 7 passed |" in (tree / "README.md").read_text()
    assert not (tree / "out").exists()


@needs_tools
def test_a_fresh_clone_whose_tests_fail_is_kept_with_its_ladder(
    tree, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(fresh.tempfile, "tempdir", str(tmp_path))
    commit_a_toy_project(tree, tmp_path, test="false")
    assert publish.main(["fresh"], tree) == 2
    said = capsys.readouterr().err
    assert "`make test` ended with exit code 2" in said
    assert (Path(said.split("kept in ")[1].strip()) / fresh.QUICK / "results.json").exists()
    assert (tree / "results/ladder/quick/results.json").exists()
    timed = json.loads((tree / "results/commands.json").read_text())
    assert [c["command"] for c in timed["commands"]] == ["make ladder"], "its time is not lost"


@needs_tools
def test_one_command_is_timed_alone(tree, tmp_path):
    commit_a_toy_project(tree, tmp_path)
    before = {"command": "make ladder", "seconds": 600.0, "commit": "beef", "note": "Of old."}
    atomic_write_json(
        tree / "results/commands.json", {"environment": {"cores": 2}, "commands": [before]}
    )
    assert publish.main(["fresh", "--only", "make test"], tree) == 0
    timed = json.loads((tree / "results/commands.json").read_text())
    assert timed["commands"][0] == before and timed["environment"] == {"cores": 2}
    assert timed["commands"][1]["last_line"] == "7 passed"
    assert not (tree / "results/ladder").exists()
    assert "`make ladder`: Of old." in (tree / "README.md").read_text()
