"""Searches that are not of rungs: which runs, their mean, and the script that measures sizes."""

import io
import json
import math

import pytest
from ladder_toys import write_text
from model_toys import tiny_design
from rich.console import Console

from mytnano.config import DataConfig, RunConfig
from mytnano.designs.baselines import starting_design
from mytnano.errors import UserError
from mytnano.ladder import trials
from mytnano.ladder.cells import Where
from mytnano.ladder.trials import Trials
from mytnano.ladder.tune import Tuned, grid_rate, rate
from mytnano.runs.jobs import Summary

QUIET = Console(file=io.StringIO())


@pytest.fixture
def bench(tmp_path):
    where = Where(
        DataConfig(corpus=str(write_text(tmp_path / "text.txt"))), tmp_path, "fp32", "cpu"
    )

    def config(name: str, lr: float, seed: int) -> RunConfig:
        model = tiny_design("mytnano", vocab_size=300, context=32).model_dump()
        return starting_design("small").but(model=model, optim={"lr": lr}, train={"seed": seed})

    return Trials(config, (7, 8), where, 0, 1e4, QUIET, "a group")


def test_every_seed_of_a_rate_is_run_and_averaged(bench, monkeypatch):
    seen = []

    def made(groups, *rest):
        for (job,) in groups:
            seen.append((job.name, job.config[0].optim.lr, job.config[0].train.score_test))
        scores = {"even": 2.0, "odd": None}
        return {job.name: {"validation_bpb": scores[job.rung] or
                           (None if job.seed == 8 else 1.0)} for (job,) in groups}  # fmt: skip

    monkeypatch.setattr(trials, "trained", made)
    found = bench.measure([("even", 1), ("odd", 2)])
    assert found == {("even", 1): 2.0, ("odd", 2): math.inf}
    assert seen[:2] == [("even-lr0.002-s7", 0.002, False), ("even-lr0.002-s8", 0.002, False)]
    assert len(seen) == 4


def test_a_failure_says_what_is_lost(bench, monkeypatch):
    class Broken:
        sentence = "the run x failed"

    monkeypatch.setattr(trials, "run_jobs", lambda *_: Summary(failed=[Broken()]))
    with pytest.raises(UserError, match="the run x failed; without it nothing can be chosen"):
        bench.measure([("even", 1)])


def test_rates_of_the_grid_are_written_to_three_digits():
    assert grid_rate(1) == 0.002 and grid_rate(-4) == 6.25e-5
    assert grid_rate(0.5) == 0.00141 != rate(0.5)


def test_sizes_whose_rates_are_compared():
    import lr_transfer as script

    names = script.names(script.SIZES)
    assert len(names) == len(set(names)) == 15
    assert [name for name in names if name.startswith("mup")] == [
        "mup-d64-l4", "mup-d64-l2", "mup-d64-l8",
    ]  # fmt: skip
    wide = script.design("completep-d256-l4").model
    assert (wide.width, wide.heads, wide.scaling) == (256, 4 * script.BASE.model.heads, "completep")
    points = [(0.002, 3.0), (0.004, 2.9), (0.008, math.inf)]
    tuned = {name: Tuned(0.002, False, True, points, 0.1) for name in names}
    tuned["mup-d64-l4"] = Tuned(0.004, False, True, points, 0.1)
    rows = script.as_json(tuned)
    assert rows["mup-d64-l8"]["octaves_from_base"] == -1
    assert rows["mup-d64-l8"]["cost_of_base_lr"] == pytest.approx(0.1)
    assert rows["mup-d64-l8"]["points"][-1] == [0.008, None]


@pytest.mark.extras
def test_the_script_runs_in_small(tmp_path, capsys):
    import lr_transfer as script

    assert script.main([str(tmp_path), "--smoke"]) == 0
    found = json.loads((tmp_path / "lr_transfer.json").read_text())
    assert found["seeds"] == [script.FIRST_SEED] and found["environment"]["commit"]
    assert found["designs"].keys() == set(script.names(script.SMOKE_SIZES))


@pytest.mark.parametrize("name", ["lr_transfer", "recipe_rates", "coordinate_check"])
def test_help_is_no_folder(name, capsys):
    script = __import__(name)
    with pytest.raises(SystemExit) as stopped:
        script.main(["--help"])
    assert stopped.value.code == 0 and "usage:" in capsys.readouterr().out
