"""A forecast's own runs: which, at which rates, made once, and refused where the text is short."""

import dataclasses
import io

import pytest
from ladder_toys import write_text
from rich.console import Console

from mytnano.config import DataConfig
from mytnano.errors import UserError
from mytnano.ladder import forecast, trials
from mytnano.ladder.forecast import Request, make_runs
from mytnano.measure.memory_plan import count_weights
from mytnano.planning import sizes
from mytnano.planning.law import Run, check_design
from mytnano.planning.sizes import LADDERS, Size, cell_rate, config_of

TOY = Size(8, 1, 2)


@pytest.mark.parametrize("name", LADDERS)
def test_the_designs_can_fix_a_law(name):
    ladder = LADDERS[name]
    runs = []
    for size, count in ladder.cells:
        config = config_of(ladder, size, count, 1e-3, 0)
        vocabulary = int(ladder.tokenizer.partition(":")[2])
        weights = count_weights(config.model.but(vocab_size=vocabulary, context=64))
        runs += [
            Run(weights.hidden + weights.head, count, 2.0, str(s)) for s in range(ladder.seeds)
        ]
    check_design(runs[: -ladder.seeds])
    *others, last = (run.work for run in runs[:: ladder.seeds])
    assert 4 <= last / max(others) <= 8
    if name == "full":
        params = [run.params for run in runs]
        assert 0.9e5 < min(params) < 1.2e5 and 1.3e6 < max(params) < 1.6e6
        assert all(size in ladder.budgets for size in ladder.tuned)


def test_rates_lie_between_the_tuned_ones():
    ladder = LADDERS["full"]
    small, large = ladder.tuned[0], ladder.tuned[-1]
    tuned = {small: 8e-3, large: 2e-3}
    at = lambda size, count=ladder.tuned_bytes: cell_rate(ladder, size, count, tuned)
    assert (at(small), at(large)) == (8e-3, 2e-3)
    between = [at(size) for size in ladder.budgets]
    assert between == sorted(between, reverse=True) and len(set(between)) == len(between)
    assert at(small, 16 * ladder.tuned_bytes) == 4e-3
    smoke = LADDERS["smoke"]
    assert cell_rate(smoke, Size(64, 1, 1), smoke.tuned_bytes) == smoke.lr


def test_runs_are_made_once(tmp_path, monkeypatch):
    ladder = dataclasses.replace(
        LADDERS["smoke"],
        name="toy",
        budgets={TOY: (1024,)},
        held_out=(TOY, 2048),
        tuned=(TOY,),
        tuned_bytes=1024,
        tokenizer="bpe:260",
        test_bytes=2000,
        validation_bytes=2000,
    )
    monkeypatch.setattr(sizes, "LADDERS", {"toy": ladder})
    for module in ("run", "folder"):
        chosen = lambda device: ("fp32", {"fp32": 1e4})
        monkeypatch.setattr(f"mytnano.ladder.{module}.choose_precision", chosen)
    text = write_text(tmp_path / "text.txt", 120_000)
    request = Request("toy", DataConfig(corpus=str(text)), tmp_path / "out", "cpu", 0)
    first = make_runs(request, Console(file=io.StringIO()))
    assert [run.bytes for run in first.runs] == [1024, 1024, 2048, 2048]
    assert {run.seed for run in first.runs} == {"0", "1"}
    assert len({run.params for run in first.runs}) == 1 and first.rates.keys() == {"d8"}
    assert all(1 < run.bpb < 9 for run in first.runs)
    assert all(run.flops > 0 for run in first.runs)
    monkeypatch.setattr(trials, "work", lambda job, report: pytest.fail("made again"))
    made_on = [each["commit"] for each in first.environments]
    monkeypatch.setattr(
        forecast, "environment", lambda *_: {"commit": "another, which made none of them"}
    )
    again = make_runs(request, Console(file=io.StringIO()))
    assert again.runs == first.runs
    assert [each["commit"] for each in again.environments] == made_on
    loses = {"test_bpb": None, "status": "diverged"}
    real = forecast.trained
    lost = lambda *given: (found := real(*given)) | {next(iter(found)): loses}
    printed = io.StringIO()
    with monkeypatch.context() as patched:
        patched.setattr(forecast, "trained", lost)
        assert make_runs(request, Console(file=printed, width=400)).runs == first.runs[1:]
    assert "-s0 diverged and is left out" in printed.getvalue()
    monkeypatch.setattr(sizes, "LADDERS", {"other": dataclasses.replace(ladder, name="other")})
    with pytest.raises(UserError, match="holds a forecast with --budget toy, and this is a"):
        make_runs(dataclasses.replace(request, budget="other"), Console(file=io.StringIO()))


def test_a_text_that_is_too_short(tmp_path):
    text = write_text(tmp_path / "text.txt")
    request = Request("full", DataConfig(corpus=str(text)), tmp_path / "out")
    with pytest.raises(UserError, match="trains on up to 25,165,824 bytes, none of them twice"):
        make_runs(request, Console(file=io.StringIO()))
    with pytest.raises(UserError, match="not a budget; choose from smoke, full"):
        make_runs(dataclasses.replace(request, budget="tiny"), Console(file=io.StringIO()))
