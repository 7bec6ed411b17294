"""Evidence: where it comes from, and what the measured checks make of it."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from claims_toys import answer, put, result
from ladder_toys import write_text

from mytnano.claims import measured
from mytnano.claims.evidence import Evidence
from mytnano.claims.gather import observations
from mytnano.claims.judge import found, judge
from mytnano.claims.ledger import Part, ledger, question_hash
from mytnano.claims.run import made
from mytnano.claims.show import as_json, summary
from mytnano.config import SEMANTICS
from mytnano.errors import UserError

PART = Part(ablation="toy", arm="a", holds=("better",), refutes=("worse", "equivalent"))


@pytest.mark.parametrize(
    ("verdict", "state"),
    [("better", "holds"), ("worse", "refuted"), ("unresolved", "open"), ("diverged", "open")],
)
def test_an_arms_verdict_is_the_parts_state(tmp_path, verdict, state):
    put(tmp_path, "toy", answer(a=verdict))
    finding = found(PART, Evidence(tmp_path))
    assert (finding.state, finding.sentence) == (state, f"a is {verdict}")
    assert finding.source == str(tmp_path / "toy" / "evidence.json")


def test_what_was_not_run_is_missing(tmp_path):
    assert found(PART, Evidence(tmp_path)).state == "missing"


def test_ones_own_evidence_goes_before_ours(tmp_path):
    shipped = Evidence()["twins"]
    assert shipped and Evidence().source("twins").endswith("evidence/twins.json")
    put(tmp_path, "twins", {**shipped, "deviation_percent": 0.0001})
    assert measured.one_run_suffices(Evidence()).state == "refuted"
    assert measured.one_run_suffices(Evidence(tmp_path)).state == "holds"
    assert measured.twins_differ_less(Evidence()).state == "refuted"
    assert measured.twins_differ_less(Evidence(tmp_path)).state == "holds"


@pytest.mark.parametrize("damaged", ["{", "[1]", "null"])
def test_damaged_evidence_is_a_sentence(tmp_path, damaged):
    put(tmp_path, "toy", {})
    (tmp_path / "toy" / "evidence.json").write_text(damaged)
    with pytest.raises(UserError, match="is damaged: delete it and run the claim again"):
        Evidence(tmp_path)["toy"]


@pytest.mark.parametrize("content", [{}, {"arms": []}, {"arms": [{"name": "a"}]}, {"arms": 3}])
def test_evidence_without_its_arms_is_damaged(tmp_path, content):
    put(tmp_path, "toy", content)
    with pytest.raises(UserError, match=r"evidence.json is damaged: delete it"):
        found(PART, Evidence(tmp_path))
    put(tmp_path, "context", {"more": {}})
    with pytest.raises(UserError, match=r"context.evidence.json is damaged: delete it"):
        measured.bigram_is_the_count(Evidence(tmp_path))


def test_the_twins_are_those_of_the_results():
    published = Path(__file__).parents[1] / "results" / "stats" / "twins.json"
    assert json.loads(published.read_text()) == Evidence()["twins"]


def test_shipped_evidence_is_whole():
    evidence = Evidence()
    for name in evidence.names():
        content = evidence[name]
        assert content and content["environment"]["commit"], f"{name}: made for another question?"
        assert content.get("question_hash") == question_hash(name)
        if name not in ("costs", "decoding", "twins", "forecast"):
            assert {arm["name"] for arm in content["arms"]}, name


def test_what_was_trained_by_other_code_is_not_evidence(tmp_path, monkeypatch):
    rates, twins = Evidence()["rates"], Evidence()["twins"]
    assert rates and twins
    put(tmp_path, "rates", {**rates, "environment": {"semantics": SEMANTICS - 1}})
    put(tmp_path, "twins", {name: twins[name] for name in twins if name != "environment"})
    own = Evidence(tmp_path, tmp_path / "nothing shipped")
    assert own["rates"] is None and own["twins"] is None
    assert measured.small_rates_suffice(own).state == "missing"
    assert "answers another version of the question, so it is not used" in own.note("rates")
    beside = Evidence(tmp_path)
    assert beside["rates"] == rates and beside.source("rates").startswith("src/mytnano")
    assert beside.note("rates").endswith("so the shipped evidence is used")
    assert not beside.note("heads"), "there is none"
    with pytest.raises(UserError, match="as it was asked by another version"):
        made(tmp_path / "rates", "rates")
    monkeypatch.setattr("mytnano.claims.evidence.semantics", lambda precision: SEMANTICS + 1)
    shipped = Evidence()
    assert shipped["rates"] is None and shipped["twins"] is None
    assert shipped["costs"], "seconds do not depend on what a run's numbers are"


def test_means_of_runs():
    seen = observations([result(), result(gradients=(0.1, 30.0), rank=0.1, gap=0.03)])
    assert seen == pytest.approx(
        {"gradient_ratio": 200.0, "rank": 0.3, "bigram_gap": 0.02, "bytes_per_token": 2.0}
    )
    unmeasured = result() | {"mechanism": []}
    assert "rank" not in observations([unmeasured])
    assert observations([]) == {}


def more(**values: dict) -> dict:
    return answer() | {"more": {name.replace("_", "-"): value for name, value in values.items()}}


def speeds(name: str, *ends: tuple[float, float]) -> dict:
    """The costs of one thing, a pair of extremes for each width."""
    found = {
        str(width): {"low": low, "median": (low + high) / 2, "high": high}
        for width, (low, high) in zip((128, 512), ends, strict=True)
    }
    return {name: {"speeds": found}}


def writing(texts: int, positions: int, *ends: tuple[float, float]) -> dict:
    """Speeds of gqa and mqa under one condition, beside those of mha."""
    names = zip(("mha", "gqa", "mqa"), ((1.0, 1.0), *ends), strict=True)
    rows = [
        {"design": name, "texts": texts, "positions": positions,
         "speed_up": {"low": low, "median": (low + high) / 2, "high": high}}
        for name, (low, high) in names
    ]  # fmt: skip
    return {"rows": rows}


CASES = [
    ("bigram_is_the_count", "context", more(baseline={"bigram_gap": -0.01}), "holds"),
    ("bigram_is_the_count", "context", more(baseline={"bigram_gap": 0.03}), "refuted"),
    ("gradients_vanish", "depth", more(stack_4={"gradient_ratio": 3000.0}), "holds"),
    ("gradients_vanish", "depth", more(stack_4={"gradient_ratio": 2.0}), "refuted"),
    ("rank_survives", "depth", more(stack_4={"rank": 0.6}), "holds"),
    ("rank_survives", "depth", more(stack_4={"rank": 1e-4}), "refuted"),
    ("tokens_are_a_quarter", "tokenizer", more(cl100k={"bytes_per_token": 5.2}), "holds"),
    ("tokens_are_a_quarter", "tokenizer", more(cl100k={"bytes_per_token": 2.2}), "refuted"),
    ("a_design_diverged", "init", answer(gpt2="better", logged="diverged"), "holds"),
    ("a_design_diverged", "init", answer(gpt2="better", logged="worse"), "refuted"),
    ("rmsnorm_is_faster", "costs", speeds("rmsnorm", (1.03, 1.2), (1.02, 1.1)), "holds"),
    ("rmsnorm_is_faster", "costs", speeds("rmsnorm", (1.03, 1.2), (0.9, 1.01)), "refuted"),
    ("rmsnorm_is_faster", "costs", speeds("rmsnorm", (1.03, 1.2), (0.9, 1.1)), "open"),
    ("compiling_pays", "costs", speeds("compile", (1.65, 1.7), (0.9, 1.1)), "holds"),
    ("compiling_pays", "costs", speeds("compile", (1.2, 1.3), (0.9, 1.1)), "refuted"),
    ("compiling_pays", "costs", speeds("compile", (1.5, 1.7), (0.9, 1.1)), "open"),
    ("one_text_is_written_faster", "decoding", writing(1, 256, (1.0, 1.1), (1.1, 1.2)), "refuted"),
    ("one_text_is_written_faster", "decoding", writing(1, 256, (1.9, 2.1), (2.5, 2.7)), "open"),
    ("many_texts_are_written_faster", "decoding", writing(64, 4096, (2, 2.1), (5, 6)), "holds"),
    ("small_rates_suffice", "rates", answer(lr="equivalent"), "holds"),
    ("small_rates_suffice", "rates", answer(lr="undertrained"), "refuted"),
    ("small_rates_suffice", "rates", answer(lr="diverged"), "refuted"),
    ("small_rates_suffice", "rates", answer(lr="better", other="unresolved"), "open"),
]


@pytest.mark.parametrize(("check", "name", "content", "state"), CASES)
def test_measured_checks_follow_what_was_measured(tmp_path, check, name, content, state):
    put(tmp_path, name, content)
    finding = getattr(measured, check)(Evidence(tmp_path))
    assert finding.state == state and finding.sentence


def test_attention_and_text_costs(tmp_path):
    rows = [
        {"kernel": kernel, "T": T, "seconds": seconds, "peak_bytes": size}
        for T, fast in ((128, 1.0), (4096, 0.25))
        for kernel, seconds, size in (("explicit", 1.0, 100), ("flash", fast, 10))
    ]
    text = {
        "bytes_per_token": 4.0, "vocabulary": 100, "blocks_speed_up": 5.0, "whole_speed_up": 0.8,
    }  # fmt: skip
    put(tmp_path, "costs", {"attention": {"rows": rows}, "tokenizer": text})
    evidence = Evidence(tmp_path)
    assert measured.flash_is_faster_at_128(evidence).state == "refuted"
    assert measured.flash_is_faster_at_4096(evidence).state == "holds"
    assert measured.flash_is_smaller(evidence).state == "holds"
    assert measured.speed_up_is_quadratic(evidence).state == "refuted"
    untold = [row | {"peak_bytes": None} for row in rows]
    put(tmp_path, "costs", {"attention": {"rows": untold}, "tokenizer": text})
    assert measured.flash_is_smaller(Evidence(tmp_path)).state == "missing"
    put(tmp_path, "costs", {"tokenizer": text | {"blocks_speed_up": 15.0}})
    assert measured.speed_up_is_quadratic(Evidence(tmp_path)).state == "holds"


def test_a_vocabularys_gain_is_held_against_the_largest_part(tmp_path):
    for name in measured.SMALL_PARTS:
        put(tmp_path, name, answer(part="unresolved"))  # at most 1 %
    gain = answer(big="better")
    for high, state in ((-1.5, "holds"), (-0.5, "refuted")):
        gain["arms"][0] |= {"low": -3.0, "high": high}
        put(tmp_path, "tokenizer", gain)
        assert measured.tokenizer_outweighs_parts(Evidence(tmp_path)).state == state
    put(tmp_path, "tokenizer", answer(big="unresolved"))
    assert measured.tokenizer_outweighs_parts(Evidence(tmp_path)).state == "open"


def test_a_claim_as_json_names_its_evidence_and_compute(tmp_path):
    claim = ledger()["C5"]
    put(tmp_path, "heads", answer(four="better", eight="unresolved"))
    evidence = Evidence(tmp_path)
    judged = judge(claim, evidence)
    assert judged.verdict == "refuted" and judged.as_predicted
    (value,) = json.loads(json.dumps(as_json([judged], evidence)))
    assert value["run_minutes"] == 2.0 and value["verdict"] == "refuted"
    assert [part["state"] for part in value["parts"]] == ["refuted", "open"]
    assert summary([judged]) == (
        "1 refuted; of 1 predictions 1 came true, with a Brier score of 0.01, better than the 0.25 "
        "of giving each one half"
    )


def test_rates_are_judged_by_the_labs_rule(tmp_path, monkeypatch):
    from rich.console import Console

    from mytnano.claims import rates
    from mytnano.lab.cells import Runner

    text = tmp_path / "farm.txt"
    write_text(text, 60_000)
    tiny = {
        "from": "small", "width": 16, "layers": 1, "heads": 2, "kv_heads": 2, "ffn_width": 32,
        "tokenizer": "byte",
    }  # fmt: skip
    monkeypatch.setattr(
        rates, "QUESTION", {"baseline": tiny, "arms": {"t": {"salt": "x"}}, "corpus": str(text)}
    )

    def train(self, jobs, watch=None):
        def one(job):
            config = job.config[0]
            octaves, luck = math.log2(config.optim.lr / 0.004), config.train.seed % 7
            bpb = 2.0 + 0.02 * octaves**2 + 0.01 * luck * config.optim.lr
            slow = config.optim.lr < 1e-4
            return {
                "validation_bpb": bpb, "test_bpb": bpb + 1e-5 * config.train.seed * slow,
                "status": "undertrained" if slow else "healthy", "seconds": 60.0,
            }  # fmt: skip

        return {job.name: one(job) for job in jobs}

    monkeypatch.setattr(Runner, "train", train)
    run = SimpleNamespace(result=lambda: {"seconds": 60.0})
    monkeypatch.setattr(rates, "finished_runs", lambda out: ([run] * 5, []))
    content = rates.measure_rates(tmp_path / "out", Console(quiet=True), "cpu", 0)
    verdicts = {arm["name"]: arm["verdict"] for arm in content["arms"]}
    assert verdicts["lr-1e-05"] == verdicts["lr-2e-05"] == "undertrained"
    assert verdicts["lr-0.0003"] == "worse"
    assert content["run_minutes"] == content["runs"] == 5
    assert 0.001 < content["lr"] < 0.016


def test_a_loss_is_forecast_where_the_gate_is_passed_in_a_fair_trial(tmp_path):
    law = {"best": "power", "forms": {"power": {"parameters": {"alpha": 0.3}}}}
    law["environment"] = {"semantics": SEMANTICS}
    law["sentences"] = ["4 runs in 2 cells", "gate FAILED: the largest run"]
    fair = {"passed": True, "weak": False, "far": False}
    for gate, state in (
        (fair, "holds"), (fair | {"passed": False}, "refuted"), (fair | {"weak": True}, "open"),
        (fair | {"far": True}, "open"), (None, "open"),
    ):  # fmt: skip
        put(tmp_path, "forecast", law | {"gate": gate})
        found = measured.loss_is_forecast(Evidence(tmp_path))
        assert found.state == state
        assert state == "open" or "gate FAILED: the largest run; " in found.sentence
