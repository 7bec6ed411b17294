"""The race of fleets: everybody trains, failures stay in their row, and the A/A check is one."""

import io
import json

import pytest
import torch
from rich.console import Console

from mytnano.bench import fleet as bench
from mytnano.bench.fleet import Contestant, parse_sizes, ratio, run_fleet_bench, summary, table
from mytnano.bench.shapes import Shape
from mytnano.errors import UserError
from mytnano.training import fleet as fleets

TINY = Shape("T", vocabulary=40, width=16, heads=2, layers=1, windows=2, context=8)


@pytest.fixture
def quick(monkeypatch):
    """A race on next to nothing, in which compiling changes nothing."""
    monkeypatch.setattr(bench, "BURST_SECONDS", 0.01)
    monkeypatch.setattr(bench, "FLEET_SHAPES", {"T": TINY})
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(fleets, "_programs", {})


def test_a_race_on_a_cpu(quick, tmp_path, monkeypatch):
    build = bench.build

    def breaking(contestant, *rest):
        if contestant.size == 3 and contestant.compiled:
            raise torch.OutOfMemoryError("no more memory\nand much more text")
        return build(contestant, *rest)

    monkeypatch.setattr(bench, "build", breaking)
    threads = torch.get_num_threads()
    try:
        result = run_fleet_bench([2, 3], ["T"], 3, tmp_path / "b.json", "cpu", 1)
    finally:
        torch.set_num_threads(threads)
    assert json.loads((tmp_path / "b.json").read_text()) == json.loads(json.dumps(result))
    rows = {row["label"]: row for row in result["shapes"]["T"]["contestants"]}
    assert set(rows) == {
        "alone eager", "alone compiled", "fleet of 2 eager", "fleet of 2 compiled",
        "fleet of 3 eager", "fleet of 3 compiled",
    }  # fmt: skip
    assert rows.pop("fleet of 3 compiled")["failure"] == "OutOfMemoryError: no more memory"
    for row in rows.values():
        assert row["failure"] is None and len(row["step_seconds"]) == 3
        assert row["tokens_per_second"] > 0 and row["ratio"] > 0
    check = result["shapes"]["T"]["agreement"]
    exact = result["environment"]["precision"] == "fp32"
    assert 0 <= check["largest_difference"] < (1e-5 if exact else 5e-3)
    assert check["last_difference"] < 0.1 * check["seed_sd"]
    assert result["environment"]["device"] == "cpu"


def test_the_check_sees_a_member_that_is_another(quick, monkeypatch):
    """A check that cannot fail would be none."""
    plain = fleets.head_gradients
    monkeypatch.setattr(
        fleets, "head_gradients", lambda s, w, t, scale, *rest: plain(s, w, t, scale * 1.01, *rest)
    )
    assert bench.agreement(TINY, "cpu", "fp32")["largest_difference"] > 5e-3


def test_ratios_count_all_members():
    alone = Contestant(1, False, fleet=False, seconds=[1.0, 2.0, 1.0])
    fleet = Contestant(8, True, seconds=[2.0, 4.0, 1.0])
    assert ratio(fleet, alone) == 4.0
    broken = Contestant(16, True, failure="OutOfMemoryError: x")
    measured = summary(TINY, [alone, fleet, broken])
    assert measured["best_alone"] == "alone eager"
    assert measured["contestants"][1]["tokens_per_second"] == 8 * TINY.tokens / 2
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(TINY, measured | {"agreement": {"failure": "no such device"}}))
    printed = console.export_text()
    assert "4.00" in printed and "failed: OutOfMemoryError" in printed
    assert "no such device" in printed


def test_nobody_alone_is_fit():
    fleet = Contestant(2, False, seconds=[1.0])
    measured = summary(TINY, [Contestant(1, False, fleet=False, failure="x"), fleet])
    assert measured["best_alone"] is None and measured["contestants"][1]["ratio"] is None


def test_mistakes(tmp_path):
    assert parse_sizes("8,16") == [8, 16]
    for text in ("", "8,x", "0", "8,,16"):
        with pytest.raises(UserError, match="is not a list of fleet sizes"):
            parse_sizes(text)
    with pytest.raises(UserError, match="'Z' is not a shape; choose from A, B, C, D"):
        run_fleet_bench([2], ["Z"], 1, tmp_path / "b.json", "cpu", 1)
