"""The ledger is whole: every claim can be decided by what it names, or says what it needs."""

from importlib import resources

import pytest
from claims_toys import answer, put

from mytnano.claims import figures, measured
from mytnano.claims.evidence import Evidence
from mytnano.claims.figures import log
from mytnano.claims.judge import FORECAST, judge, needed, score, verdict
from mytnano.claims.ledger import Part, chosen, ledger, question_file
from mytnano.errors import UserError
from mytnano.lab.spec import read_spec

CLAIMS = list(ledger().values())


def test_it_has_the_56_claims_in_order():
    assert [claim.id for claim in CLAIMS] == [f"C{n}" for n in range(1, 57)]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_what_decides_a_claim_exists(claim):
    rested = [name for part in claim.parts for name in measured.NEEDS.get(part.check, ())]
    forecast = FORECAST in rested  # of a text that the package does not have
    assert bool(claim.parts) != bool(claim.needs) or forecast
    # What the log's figures or earlier twins decide was known, so predicting it would be no feat.
    runs = bool(needed(claim)) or forecast
    assert runs == (claim.predict is not None) == (claim.p is not None)
    for part in claim.parts:
        if part.check:
            assert hasattr(figures, part.check) != hasattr(measured, part.check)
        else:
            with resources.as_file(question_file(part.ablation)) as path:
                spec = read_spec(path)
            assert part.arm in spec.arms
            assert not set(part.holds) & set(part.refutes)


def test_every_question_decides_a_claim_and_has_predictions():
    files = [f.name for f in (resources.files("mytnano.claims") / "questions").iterdir()]
    used = {name for claim in CLAIMS for name in claim.questions}
    assert {name.removesuffix(".yaml") for name in files if name.endswith(".yaml")} == used
    for name in used:
        with resources.as_file(question_file(name)) as path:
            spec = read_spec(path)
        assert spec.prediction.keys() == spec.arms.keys(), name


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"check": "x", "ablation": "a", "arm": "b", "holds": ("better",), "refutes": ("worse",)},
        {"ablation": "a", "arm": "b", "holds": ("better",)},
        {"ablation": "a", "arm": "b", "holds": ("good",), "refutes": ("worse",)},
    ],
)
def test_a_part_that_decides_nothing_is_refused(wrong):
    with pytest.raises(ValueError):
        Part.model_validate(wrong)


def test_claims_are_chosen_by_id_in_any_case():
    assert [claim.id for claim in chosen(("c13", "C2"))] == ["C2", "C13"]
    assert len(chosen(())) == 56
    with pytest.raises(UserError, match="'C99' is not a claim; there are C1 to C56"):
        chosen(("C99",))


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["holds", "holds"], "holds"), (["refuted", "open"], "refuted"),
        (["holds", "refuted"], "partly"), (["holds", "refuted", "open"], "partly"),
        (["holds", "open"], "unresolved"), (["open"], "unresolved"), ([], "not run"),
        (["holds", "missing"], "not run"), (["refuted", "missing"], "not run"),
    ],
)  # fmt: skip
def test_the_parts_make_the_verdict(states, expected):
    assert verdict(states) == expected


CHECKS = [
    "bigram_units", "character_loss_is_possible", "losses_share_a_unit", "stage_six_is_logged",
    "mha_row_is_logged", "stage_nine_is_logged", "stage_nine_saw_the_same_text",
    "final_design_is_the_winners", "average_knew_positions",
]  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_what_the_figures_say(name):
    finding = getattr(figures, name)()
    assert finding.state == ("holds" if name == "bigram_units" else "refuted")
    assert finding.sentence and finding.source.endswith("log.yaml")


CONSISTENT = {
    "printed": {
        "bigram": {"loss": 2.0, "bits": 2.0}, "character-baseline": {"loss": 1.5},
        "bpe": {"loss": 6.0036}, "final-2": {"loss": 11.0930},
    },
    "csv": {"07": [6.0036], "09": [11.093]}, "characters": 96, "cl100k": 100352,
    "adds_positions": False,
    "final_runs": {
        "7.95": {"steps": 10, "batch": 2, "context": 4},
        "7.42": {"steps": 20, "batch": 1, "context": 4},
    },
    "winners": {"ffn": "SwiGLU"}, "final_code": {"ffn": "SwiGLU"},
}  # fmt: skip
FLIPPED = [name for name in CHECKS if name != "losses_share_a_unit"]


@pytest.mark.parametrize("name", FLIPPED)
def test_other_figures_would_be_judged_otherwise(name, monkeypatch):
    monkeypatch.setattr(figures, "log", lambda: CONSISTENT)
    assert getattr(figures, name)().state == ("refuted" if name == "bigram_units" else "holds")


def test_printed_figures_are_those_of_the_summary():
    assert log()["printed"]["bigram"]["loss"] == 2.464
    assert log()["printed"]["final-2"] == {"loss": 7.4214, "bits": 10.7068}
    assert figures.bits_follow("final-2")
    assert not figures.bits_follow("character-baseline")


def test_predictions_are_scored(tmp_path):
    put(tmp_path, "heads", answer(four="better", eight="better"))
    put(tmp_path, "flash", answer(flash="worse"))
    claims = chosen(("C5", "C13", "C24", "C40"))
    judged = [judge(claim, Evidence(tmp_path, tmp_path)) for claim in claims]
    assert [each.verdict for each in judged] == ["refuted", "not run", "refuted", "refuted"]
    assert [each.as_predicted for each in judged] == [True, None, None, False]
    right, tested, brier = score(judged)
    assert (right, tested) == (1, 2)
    assert brier == pytest.approx((0.1**2 + 0.8**2) / 2)
    assert score([]) == (0, 0, None)
