"""Extended groups end to end on next to nothing: rates before seeds, equal FLOPs, epochs, cache."""

import json
from dataclasses import replace

import pytest
import torch
from ladder_toys import request, run_ladder, small_attention, write_text
from model_toys import kept_bytes
from rich.console import Console

from mytnano.config import DataConfig
from mytnano.designs.budgets import BUDGETS
from mytnano.designs.families import BASE, MIDDLE
from mytnano.designs.groups import WIDER_GROUPS
from mytnano.designs.rungs import KNOWN, design
from mytnano.errors import UserError
from mytnano.ladder import decode_speed, group_rates, plan
from mytnano.ladder.cells import Where, cell, middle_of
from mytnano.ladder.group_rates import known_rates, planned, source_of, to_tune, tune_into
from mytnano.ladder.sweep import Sweep
from mytnano.ladder.trials import Trials
from mytnano.ladder.tune import around, rate
from mytnano.model.cache import Cache, kv_bytes_per_token
from mytnano.model.transformer import Transformer
from mytnano.report.html import write_report
from mytnano.run_files import DECODE, GROUP_RATES
from mytnano.runs.store import finished_runs
from mytnano.training.matching import run_flops
from mytnano.training.text import prepare

SMOKE = BUDGETS["smoke"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "farm.txt", 60_000)


@pytest.fixture
def where(text, tmp_path):
    return Where(DataConfig(corpus=str(text)), tmp_path / "out", "fp32", "cpu", best_bpe="bpe:512")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Designs of one narrow block, a few steps, hardly any scoring."""
    small_attention(monkeypatch)
    base = KNOWN["bigram"]
    tiny = {"width": 32}
    monkeypatch.setitem(
        KNOWN, "bigram", type(base)(**{**vars(base), "change": lambda c: c.but(model=tiny)})
    )
    budget = type(SMOKE)(**{**vars(SMOKE), "train_bytes": 4096, "validation_bytes": 2048,
                            "test_bytes": 2048})  # fmt: skip
    monkeypatch.setitem(BUDGETS, "smoke", budget)
    monkeypatch.setattr(decode_speed, "SHORT_LONG", 96)


def pretend(monkeypatch, loss):
    """Searches that measure ``loss(rung, rate)``; returns what was asked."""
    asked = []

    def measure(self, wanted):
        asked.extend(wanted)
        return {(id, exponent): loss(id, rate(exponent)) for id, exponent in wanted}

    monkeypatch.setattr(Trials, "measure", measure)
    return asked


def sweep_of(where):
    return Sweep(where, BUDGETS["smoke"], 0, 30_000.0, Console(quiet=True))


def test_a_group_is_planned_tuned_trained_and_reported(text, tmp_path):
    printed = run_ladder(text, tmp_path, "schedules-constant", BASE)
    assert "after some 4 that tune 1 learning rate" in printed
    assert "learning rate of schedules-constant: " in printed
    entry = json.loads((tmp_path / GROUP_RATES).read_text())["rungs"]["schedules-constant"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row["rung"] for row in results["runs"]] == [BASE, "schedules-constant"]
    assert results["runs"][1]["lr"] == entry["lr"] and results["runs"][1]["group"] == "schedules"
    seeds = [each.result()["seed"] for each in finished_runs(tmp_path)[0]]
    assert seeds.count(1000) == len(entry["points"]) >= 3
    page = write_report(tmp_path).read_text()
    assert 'id="group-schedules"' in page and f"tuned: {len(entry['points'])} rates" in page
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/manifest.json")}
    (tmp_path / GROUP_RATES).unlink()
    again = run_ladder(text, tmp_path, "schedules-constant")
    assert json.loads((tmp_path / GROUP_RATES).read_text())["rungs"]["schedules-constant"] == entry
    assert {p: p.stat().st_mtime_ns for p in before} == before, "no run is made twice"
    assert "will not be among the results" not in again


@pytest.mark.extras
def test_the_group_of_shared_heads_has_its_cache_raced_once(text, tmp_path):
    run_ladder(text, tmp_path, "kv-heads")
    file = tmp_path / DECODE
    found = json.loads(file.read_text())
    kept = {row["rung"]: row["kv_bytes_per_token"] for row in found["rows"]}
    assert kept["kv-heads-mha"] == 2 * kept[BASE] == 4 * kept["kv-heads-mqa"]
    assert {row["positions"] for row in found["rows"]} >= {96}
    assert all(row["tokens_per_second"] > 0 for row in found["rows"])
    before = file.read_bytes()
    run_ladder(text, tmp_path, "kv-heads")
    assert file.read_bytes() == before
    assert "Cache and speed of writing" in write_report(tmp_path).read_text()


def test_the_bytes_of_a_cached_token_are_what_a_cache_keeps():
    for id in WIDER_GROUPS["kv-heads"].ids:
        config = design(id).model.but(vocab_size=50, context=32, width=32)
        cache = Cache([8, 8], 32)
        with torch.no_grad():
            Transformer(config)(torch.zeros(2, 8, dtype=torch.long), cache)
        assert kept_bytes(cache) == 2 * 32 * kv_bytes_per_token(config)


def test_which_rates_are_tuned():
    rungs = [KNOWN[id] for id in ("kv-heads-mqa", "tokenizers-512-flops", "dropout-0.1", BASE)]
    assert to_tune(rungs) == ["tokenizers-512", "dropout-0.1"]
    assert source_of(KNOWN["tokenizers-cl100k-flops"]).id == f"{BASE}-cl100k"
    assert source_of(KNOWN["norms-layernorm"]).id == BASE


def test_a_search_starts_around_the_parents_rate_and_is_kept(where, monkeypatch):
    asked = pretend(monkeypatch, lambda id, lr: 2 + (lr - 0.01) ** 2)
    sweep, said = sweep_of(where), []
    first = group_rates.start_of("inits-gpt2", sweep)
    found = tune_into(sweep, ["inits-gpt2"], {"hardware": "toy"}, said.append)
    assert [e for _, e in asked[:3]] == first
    assert 0.005 < found.group_rates["inits-gpt2"] < 0.02 and len(said) == 1
    asked.clear()
    known = group_rates.with_known_rates(sweep)
    assert known.group_rates == found.group_rates
    tune_into(sweep_of(known), ["inits-gpt2", "inits-torch"], {}, said.append)
    assert {id for id, _ in asked} == {"inits-torch"}
    assert set(json.loads((where.out / GROUP_RATES).read_text())["rungs"]) == {
        "inits-gpt2",
        "inits-torch",
    }
    config = cell(KNOWN["tying-tied"], BUDGETS["smoke"], 0, known)
    assert config.optim.lr == known.group_rates["inits-gpt2"], "until its own is tuned"


@pytest.mark.parametrize("damage", ["garbage", "another budget", "another design", "no rate"])
def test_a_rate_that_is_of_something_else_counts_for_nothing(where, monkeypatch, damage):
    pretend(monkeypatch, lambda id, lr: 2 + (lr - 0.01) ** 2)
    sweep = sweep_of(where)
    tune_into(sweep, ["inits-gpt2"], {}, lambda sentence: None)
    content = json.loads((where.out / GROUP_RATES).read_text())
    entry = content["rungs"]["inits-gpt2"]
    if damage == "another budget":
        content["train_bytes"] *= 2
    entry |= {"another design": {"design": "0" * 12}, "no rate": {"lr": None}}.get(damage, {})
    whole = json.dumps(content)
    (where.out / GROUP_RATES).write_text(whole[:40] if damage == "garbage" else whole)
    assert known_rates(sweep, ["inits-gpt2"]) == {}
    assert group_rates.with_known_rates(sweep).group_rates == {}


def test_around_stays_on_the_grid():
    assert around(2e-3) == [0, 1, 2] and around(2.9e-3) == [1, 2, 3]
    assert around(1e-9) == [-4, -3, -2] and around(1.0) == [5, 6, 7]


def test_equal_flops_are_those_of_the_middle_vocabulary(where, monkeypatch):
    budget = type(SMOKE)(**{**vars(SMOKE), "train_bytes": 2**18})
    rates = {"tokenizers-byte": 0.004}
    where = Where(where.data, where.out, "fp32", "cpu", group_rates=rates)
    middle = cell(KNOWN[MIDDLE], budget, 0, where)
    at_bytes, matched = (cell(KNOWN[id], budget, 0, where)
                         for id in ("tokenizers-byte", "tokenizers-byte-flops"))  # fmt: skip
    assert run_flops(matched) == pytest.approx(run_flops(middle), rel=0.01)
    assert matched.but(train={"train_bytes": 2**18}, optim={"lr": 0.004}) == at_bytes
    scale = (matched.train.train_bytes / 2**18) ** -0.25
    assert scale != 1 and matched.optim.lr == pytest.approx(0.004 * scale, rel=0.01)


def test_epochs_read_a_part_of_the_text_again(where):
    budget = BUDGETS["smoke"]
    config = cell(KNOWN["dropout-0.1-4-epochs"], budget, 0, where)
    assert config.data.text_bytes == budget.train_bytes // 4 and config.model.dropout == 0.1
    plain = cell(KNOWN[BASE], budget, 0, where)
    read, whole = (prepare(c.data, where.cache) for c in (config, plain))
    assert read.train.byte_count == budget.train_bytes // 4 < whole.train.byte_count
    assert read.validation.byte_count == whole.validation.byte_count
    first = len(read.train.document_starts)
    shared = int(read.train.document_starts[first - 1]) if first > 1 else len(read.train.ids) // 2
    assert (read.train.ids[:shared] == whole.train.ids[:shared]).all(), "the start of the split"
    assert config.steps == plain.steps
    batch = cell(KNOWN["batch-2"], budget, 0, where)
    assert batch.but(train={"batch_windows": 4}, optim={"lr": plain.optim.lr}) == plain


def test_what_the_text_or_the_machine_lacks_is_left_out_and_told(text, tmp_path, monkeypatch):
    said = []
    where = Where(DataConfig(corpus=str(text)), tmp_path, "fp32", "cpu")
    monkeypatch.setattr(plan.importlib.util, "find_spec", lambda name: None)
    rungs = [KNOWN[id] for id in (BASE, "tokenizers-512", "tokenizers-30720", "optimizers-lion")]
    groups = plan.plan(rungs, BUDGETS["smoke"], 1, where, 30_000, said.append)
    assert [group[0].rung for group in groups] == [BASE, "tokenizers-512"]
    assert any("tokenizers-30720 is left out" in sentence for sentence in said)
    assert any("lion-pytorch" in sentence for sentence in said)
    with pytest.raises(UserError, match="nothing to run: optimizers-lion is left out: it needs"):
        run_ladder(text, tmp_path, "optimizers-lion")


def test_sizes_that_the_text_does_not_support_have_no_run_whatever_is_tuned(where):
    said, rungs = [], [KNOWN[id] for id in WIDER_GROUPS["tokenizers"].ids]
    groups = plan.plan(rungs, BUDGETS["smoke"], 1, where, 30_000, said.append)
    ids = [group[0].rung for group in groups]
    sizes = [int(id.rpartition("-")[2]) for id in ids if id[-1].isdigit()]
    middle = middle_of(KNOWN["tokenizers-byte-flops"], BUDGETS["smoke"], where)
    assert middle.id == f"tokenizers-{max(sizes)}" != MIDDLE
    assert f"{middle.id}-flops" not in ids and "tokenizers-byte-flops" in ids
    assert all(job.config[0].data.tokenizer == f"bpe:{size}" for size in sizes for (job,) in groups
               if job.rung == f"tokenizers-{size}")  # fmt: skip
    tuned = replace(where, group_rates={middle.id: 0.123, "tokenizers-512": 0.045})
    again = plan.plan(rungs, BUDGETS["smoke"], 1, tuned, 30_000, said.append)
    assert [group[0].rung for group in again] == ids
    larger = type(SMOKE)(**{**vars(SMOKE), "train_bytes": 2**18})
    pair = [cell(rung, larger, 0, where) for rung in (KNOWN["tokenizers-byte-flops"], middle)]
    assert run_flops(pair[0]) == pytest.approx(run_flops(pair[1]), rel=0.02)


def test_a_part_that_is_no_part_of_the_text_is_left_out(where):
    said, rungs = [], [KNOWN[id] for id in WIDER_GROUPS["dropout"].ids]
    large = type(SMOKE)(**{**vars(SMOKE), "train_bytes": 2**18})  # 16 KiB 16 times, 64 KiB 4 times
    groups = plan.plan(rungs, large, 1, where, 30_000, said.append)
    ids = [group[0].rung for group in groups]
    assert ids == [BASE, *(f"dropout{share}-16-epochs" for share in ("", "-0.1", "-0.3"))]
    assert any("dropout-4-epochs is left out: it is to read 64 KiB of text 4 times" in sentence
               for sentence in said)  # fmt: skip


def test_the_plan_of_every_group_stands(text, tmp_path):
    where = Where(DataConfig(corpus=str(text)), tmp_path, "fp32", "cpu", best_bpe="bpe:512")
    sweep = sweep_of(where)
    for group in WIDER_GROUPS.values():
        if group.name == "tokenizers":
            continue  # needs more text than a test's
        rungs = [KNOWN[id] for id in group.ids]
        groups = plan.plan(rungs, BUDGETS["smoke"], 2, where, 30_000, lambda sentence: None)
        assert [len(jobs) for jobs in groups] == [2] * len(group.ids)
        names = [job.folder.name for jobs in groups for job in jobs]
        assert len(set(names)) == len(names)
        searches = planned(sweep, to_tune(rungs))
        assert all(len(jobs) == 3 for jobs in searches.values())
        assert all(job.config[0].train.score_test is False for jobs in searches.values()
                   for job in jobs)  # fmt: skip
    assert request(text, tmp_path, "sizes").rungs == ("sizes",)


def test_shards_have_no_part_that_is_read_again(tmp_path):
    with pytest.raises(UserError, match=r"data\.text_bytes takes a part of a text in memory"):
        prepare(DataConfig(corpus="shards:nowhere", text_bytes=4096), tmp_path)
