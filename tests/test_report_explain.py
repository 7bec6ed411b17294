"""A rung in the terminal."""

import io
import json
import subprocess
import sys

import pytest
from report_toys import make_folder
from rich.console import Console

from mytnano.designs.rungs import RUNGS
from mytnano.errors import UserError
from mytnano.report.data import load_results
from mytnano.report.explain import code_of, explain, source_of


def printed(*arguments):
    console = Console(file=io.StringIO(), width=140, color_system=None)
    console.print(explain(*arguments))
    return console.file.getvalue()


@pytest.mark.parametrize("id", RUNGS)
def test_every_rung_prints_the_code_that_it_switches_on(id):
    text = printed(id)
    assert RUNGS[id].why in " ".join(text.split())
    assert code_of(RUNGS[id])
    for name in code_of(RUNGS[id]):
        source = source_of(name)
        assert f"{source.path}:{source.first_line}" in text
        code = [line for line in source.text.splitlines() if line.strip()]
        assert len(code) >= 3 and any(line.startswith(("def ", "class ")) for line in code)
        assert all(line.strip() in text for line in code if len(line) < 100)


def test_lines_that_read_the_changed_setting_are_marked():
    marked = [line for line in printed("residual").splitlines() if line.startswith("❱")]
    assert marked and all(".residual" in line for line in marked)


def test_a_change_is_shown_before_and_after():
    text = printed("logged-lr")
    line = next(line for line in text.splitlines() if "optim.lr" in line)
    assert line.split()[1:3] == ["0.00355", "1e-5"]
    assert "it changes nothing" in printed("bigram")


def test_what_was_measured(tmp_path):
    folder = make_folder(tmp_path, ["block", "stack"])
    arm = load_results(folder).arms["stack"]
    text = printed("stack", folder)
    assert f"{arm.mean():.3f}" in text and f"{arm.mean('test_loss'):.4f} per character" in text
    assert "2.4622 per character" in text
    assert "Status: collapsed" in text and "Two seeds decide nothing." in text
    assert "not among the results" in printed("residual", folder)
    assert "this run" not in printed("stack", tmp_path / "empty")


def test_without_results_it_is_said_where_what_was_measured_is(tmp_path):
    last = "What was measured is not shown: give --out FOLDER, a folder of `mytnano ladder`."
    assert printed("swiglu").rstrip().endswith(last)
    assert "What was measured is not shown" not in printed(
        "stack", make_folder(tmp_path, ["stack"])
    )
    empty = printed("stack", tmp_path / "empty").rstrip()
    assert empty.endswith("a folder of `mytnano ladder` with results, which 'empty' is not.")


def test_a_claim_above_even_guessing_is_said_to_be_one():
    text = " ".join(printed("pre-norm").split())
    assert "11.7760 per character, above even guessing" in text
    assert "96 characters costs 4.56 nats, so 11.776 per character is no loss" in text


def test_an_unknown_rung_is_one_sentence():
    with pytest.raises(UserError, match="no rung 'nope'"):
        explain("nope")
    with pytest.raises(UserError, match="'norms' is a group: give one of its rungs, mytnano, norm"):
        explain("norms")


def test_a_rung_of_a_group_has_the_rate_of_its_run_or_none(tmp_path):
    line = lambda text: next(row for row in text.splitlines() if row.strip().startswith("optim.lr"))
    unknown = line(printed("activations-relu"))
    assert unknown.count("not known") == 2 and "tuned in the" in unknown
    out = make_folder(tmp_path, ["mytnano", "activations-relu"])
    file = out / "results.json"
    found = json.loads(file.read_text())
    for row in found["runs"]:
        row["lr"] = 0.00246 if row["rung"] == "activations-relu" else 0.00219
    file.write_text(json.dumps(found))
    assert line(printed("activations-relu", out)).split()[:3] == ["optim.lr", "0.00219", "0.00246"]


def test_an_unknown_source_is_an_error():
    with pytest.raises(AttributeError):
        source_of("model.nothing")


def test_explaining_does_not_wait_for_matplotlib():
    code = "import sys, mytnano.report.explain; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
