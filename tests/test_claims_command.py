"""``mytnano claims`` as a user meets it."""

import io
import json

import pytest
from claims_toys import answer, put
from rich.console import Console

from mytnano.claims import costs, decoding, run
from mytnano.claims.command import give_claims
from mytnano.claims.evidence import Evidence
from mytnano.claims.judge import needed
from mytnano.claims.ledger import chosen
from mytnano.errors import UserError
from mytnano.model.cache import Cache


def ask(out, *words: str, json_wanted=False, capsys=None) -> str:
    printed = io.StringIO()
    give_claims(words, json_wanted, out, "cpu", 0, Console(file=printed, width=100))
    return capsys.readouterr().out if capsys else printed.getvalue()


def test_all_claims_are_listed_with_the_score(tmp_path):
    text = ask(tmp_path)
    assert "C56" in text and "of" in text.splitlines()[-1] and "predictions" in text


def test_one_claim_shows_its_parts_and_what_runs_it(tmp_path):
    put(tmp_path, "heads", answer(four="better", eight="better"))
    text = ask(tmp_path, "C5")
    assert "verdict: refuted" in text and "[-] four is better" in text
    assert f"evidence: {tmp_path / 'heads' / 'evidence.json'}" in text
    assert "runs: 2 minutes by the clock" in text
    assert "needs: probes per layer" in ask(tmp_path, "C55")


def test_json_is_json(tmp_path, capsys):
    values = json.loads(ask(tmp_path, json_wanted=True, capsys=capsys))
    assert len(values) == 56 and values[24]["verdict"] == "refuted"


def test_mistakes_are_sentences(tmp_path):
    with pytest.raises(UserError, match="name the claims to run"):
        ask(tmp_path, "run")
    with pytest.raises(UserError, match="nothing to run"):
        ask(tmp_path, "run", "C25", "C55")
    with pytest.raises(UserError, match="'C57' is not a claim"):
        ask(tmp_path, "run", "C57")


def test_every_claim_with_parts_knows_its_runs():
    figures_twins_and_a_forecast = {
        "C23", "C24", "C25", "C30", "C39", "C44", "C47", "C48", "C50", "C51", "C54"
    }  # fmt: skip
    idle = {claim.id for claim in chosen(()) if claim.parts and not needed(claim)}
    assert idle == figures_twins_and_a_forecast


def test_running_makes_evidence_once(tmp_path, monkeypatch, capsys):
    asked = []

    def ablate(path, folder, console, device, workers):
        asked.append(path.stem)
        folder.mkdir(parents=True)
        (folder / "answer.json").write_text(json.dumps(answer(four="better", eight="worse")))

    monkeypatch.setattr(run, "ablate", ablate)
    text = ask(tmp_path, "run", "C5")
    assert "verdict: partly" in text and asked == ["heads"]
    assert "heads: finished" in ask(tmp_path, "run", "C5") and asked == ["heads"]
    capsys.readouterr()
    assert json.loads(ask(tmp_path, "run", "C5", json_wanted=True, capsys=capsys))[0]["id"] == "C5"


def test_costs_are_measured(monkeypatch):
    """On next to nothing: ratios of steps that were run, and the attention rows."""
    small = {"WIDTHS": (32,), "TOKENS": 64, "CONTEXT": 32, "ROUNDS": 1, "LOGGED_TEXT": 64}
    for name, value in {**small, "VOCABULARY": 300}.items():
        monkeypatch.setattr(costs, name, value)
    monkeypatch.setattr(
        costs.attention_cost, "measure", lambda device: {"rows": [{"kernel": "flash", "T": 128}]}
    )
    monkeypatch.setattr("mytnano.training.engine.can_compile", lambda device="cpu": False)
    monkeypatch.setattr(costs, "QUIET", 101)
    found = costs.measure_costs("fp32", "cpu")
    for name in ("rmsnorm", "compile"):
        speeds = found[name]["speeds"]["32"]
        assert 0 < speeds["low"] <= speeds["median"] <= speeds["high"]
    assert found["tokenizer"]["whole_speed_up"] > 0 and found["attention"]["rows"]


def test_the_speed_of_writing_is_measured(monkeypatch):
    monkeypatch.setattr(costs, "QUIET", 101)
    for name, value in {"CONDITIONS": ((1, 32), (2, 64)), "TOKENS": 4, "ROUNDS": 2}.items():
        monkeypatch.setattr(decoding, name, value)
    rows = decoding.measure_decoding("cpu")["rows"]
    assert [(row["design"], row["texts"], row["positions"]) for row in rows] == [
        (name, *condition) for condition in ((1, 32), (2, 64)) for name in ("mha", "gqa", "mqa")
    ]
    kept = {row["design"]: row["kv_bytes_per_token"] for row in rows}
    assert kept["mha"] == 2 * kept["gqa"] == 8 * kept["mqa"]
    assert all(row["speed_up"]["median"] == 1 for row in rows if row["design"] == "mha")
    assert all(row["speed_up"]["low"] <= row["speed_up"]["high"] for row in rows)


def test_writing_is_timed_over_a_cache_that_is_nearly_full(monkeypatch):
    model, seen = decoding.untrained(2, 64, "cpu"), []
    extend = Cache.extend

    def watched(cache, layer, k, v):
        keys, values = extend(cache, layer, k, v)
        seen.append(keys.shape[2])
        return keys, values

    monkeypatch.setattr(Cache, "extend", watched)
    decoding.seconds(model, 2, 64)
    looked_at = seen[model.config.layers :: model.config.layers]  # by the first block, after one id
    assert looked_at == list(range(64 - decoding.TOKENS + 1, 65))


def test_costs_of_a_busy_machine_are_refused(monkeypatch):
    monkeypatch.setattr(costs.psutil, "cpu_percent", lambda interval: 55.0)
    with pytest.raises(UserError, match="other programs use 55 % of the machine"):
        costs.measure_costs("fp32", "cpu")


def test_evidence_of_another_question_is_not_taken_for_this_one(tmp_path, monkeypatch):
    put(tmp_path, "heads", answer(four="better", eight="worse") | {"question_hash": "0" * 12})
    assert Evidence(tmp_path).current_own("heads") is None
    assert "note: " in ask(tmp_path, "C5") and "shipped evidence is used" in ask(tmp_path, "C5")
    with pytest.raises(UserError, match="'heads' as it was asked by another version"):
        ask(tmp_path, "run", "C5")


def test_interleaving_takes_turns_and_medians(monkeypatch):
    monkeypatch.setattr(costs, "ROUNDS", 3)
    order = []
    found = costs.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")})
    assert order == ["a"] * 3 + ["b"] * 3 + ["a"] * 3 + ["b"] * 3 + ["a"] * 3 + ["b"] * 3
    assert found.keys() == {"a", "b"}
