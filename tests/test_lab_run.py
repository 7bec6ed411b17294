"""Whole ablations: real ones on next to nothing, and pretended ones whose truth is known."""

import csv
import io
import json
import math
import random
from dataclasses import fields
from xml.etree import ElementTree

import pytest
from lab_toys import ask, in_fp32, pretend, question, where
from rich.console import Console

from mytnano import cli
from mytnano.errors import RunFailed, UserError
from mytnano.kept import write_kept
from mytnano.lab import cells
from mytnano.lab import folder as kept_by
from mytnano.lab import run as module
from mytnano.lab.answer import Answer
from mytnano.lab.cells import Runner
from mytnano.lab.plan import make_plan
from mytnano.lab.run import looks, show_plan
from mytnano.lab.show import print_stored
from mytnano.lab.spec import Spec, read_spec
from mytnano.runs.jobs import Failed, Summary
from mytnano.runs.store import finished_runs
from mytnano.stats.eprocess import fewest_pairs


def noise(*parts, size=0.002):
    return random.Random(str(parts)).gauss(0, size)


def effect(percent, size=0.002):
    """Scores of a baseline with a seed's own part, and of an arm that differs by some percent."""

    def score(arm, lr, seed):
        truth = 2.0 * (1 + percent / 100 * (arm != "baseline"))
        own = noise("seed", seed, size=0.02) + noise(arm, seed, size=size)
        return truth + own + 0.02 * math.log2(lr / 0.004) ** 2

    return score


def rows(folder):
    return list(csv.DictReader((folder / "results.csv").open()))


def test_a_real_question_from_start_to_answer(tmp_path, monkeypatch):
    # In bf16 runs as small as these are undertrained.
    monkeypatch.setattr(module, "settled_precision", lambda *asked: "fp32")
    found, printed = ask(tmp_path, seeds=6)
    (verdict,) = found.verdicts
    assert verdict.pairs == 6 and verdict.verdict in ("better", "worse", "equivalent", "unresolved")
    table = rows(tmp_path / "out")
    assert len(table) == 12 and {row["arm"] for row in table} == {"baseline", "relu"}
    assert all(row["status"] == "healthy" for row in table)
    plan = json.loads((tmp_path / "out/plan.json").read_text())
    assert plan["hash"] == found.plan.hash and plan["spec"]["seeds"] == 6
    answer = json.loads((tmp_path / "out/answer.json").read_text())
    assert answer["final"] is True
    assert answer["arms"][0]["sentence"] == found.sentences[0]
    assert answer["arms"][0]["factors"] == ["model.ffn: gelu -> relu"]
    assert found.sentences[0] in printed and "FLOPs matched to 0.0%" in printed
    assert "  relu: 5 pairs, " in printed and "the rule needs BF 100, has " in printed
    drawn = ElementTree.fromstring((tmp_path / "out/answer.svg").read_text())
    assert verdict.verdict in "".join(drawn.itertext())
    tuning = [
        run for run in finished_runs(tmp_path / "out")[0] if run.result()["group"] == "tuning"
    ]
    assert len(tuning) >= 6
    assert all(run.result()["test_bpb"] is None for run in tuning), "test text tunes nothing"
    # The same command again repeats nothing and says the same.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/runs").rglob("manifest.json")}
    again, _ = ask(tmp_path, seeds=6)
    assert again.sentences == found.sentences
    assert before == {
        p: p.stat().st_mtime_ns for p in (tmp_path / "out/runs").rglob("manifest.json")
    }


def test_a_design_that_computes_the_same_is_identical(tmp_path):
    # Up to one tile of queries both kernels are the same sums: another choice, the same numbers.
    found, printed = ask(tmp_path, arms={"kernel": {"kernel": "explicit"}}, seeds=6)
    assert found.verdicts[0].verdict == "identical"
    assert "identical" in printed


@pytest.mark.parametrize(
    ("percent", "size", "verdict"),
    [(-2.0, 0.002, "better"), (2.0, 0.002, "worse"), (0.0, 0.0004, "equivalent")],
)
def test_a_planted_effect_is_found(tmp_path, monkeypatch, percent, size, verdict):
    jobs = pretend(monkeypatch, effect(percent, size))
    found, printed = ask(tmp_path, seeds=40, prediction={"relu": verdict})
    assert found.verdicts[0].verdict == verdict
    assert "predicted rightly" in printed
    confirmed = [job for job in jobs if job.config[2]["group"] == "confirmed"]
    assert len(confirmed) < 80, "it stops when the rule has decided"
    assert {job.config[0].optim.lr for job in confirmed} == {0.004}
    assert not {job.seed for job in confirmed} & {job.seed for job in jobs if job not in confirmed}


def test_what_cannot_be_decided_is_unresolved_and_says_what_could(tmp_path, monkeypatch):
    jobs = pretend(monkeypatch, effect(-0.5, 0.04))
    found, printed = ask(tmp_path, seeds=10)
    assert found.verdicts[0].verdict == "unresolved"
    assert "with probability 0.8" in printed
    assert sum(job.config[2]["group"] == "confirmed" for job in jobs) == 20


def test_a_decided_arm_gets_no_more_seeds(tmp_path, monkeypatch):
    def score(arm, lr, seed):
        return effect(-3.0)(arm, lr, seed) if arm == "silu" else effect(-0.4, 0.03)(arm, lr, seed)

    jobs = pretend(monkeypatch, score)
    arms = {"silu": {"ffn": "silu"}, "relu": {"ffn": "relu"}}
    found, _ = ask(tmp_path, arms=arms, seeds=14)
    count = {arm: sum(j.rung == arm and j.config[2]["group"] == "confirmed" for j in jobs)
             for arm in ("baseline", "silu", "relu")}  # fmt: skip
    assert count["silu"] < count["relu"] == count["baseline"] == 14
    assert [v.verdict for v in found.verdicts] == ["better", "unresolved"]


@pytest.mark.parametrize("bad", ["collapsed", "diverged", "undertrained"])
def test_an_unfit_arm_is_its_own_verdict(tmp_path, monkeypatch, bad):
    state = lambda arm, seed: bad if arm == "relu" and seed == 2 else "healthy"
    pretend(monkeypatch, effect(-5.0), state)
    found, printed = ask(tmp_path)
    assert found.verdicts[0].verdict == bad
    assert f"{bad}, so it is not compared with baseline" in printed


def test_an_unfit_baseline_is_refused(tmp_path, monkeypatch):
    pretend(
        monkeypatch, effect(0.0), lambda arm, seed: "collapsed" if arm == "baseline" else "healthy"
    )
    with pytest.raises(UserError, match="the baseline is collapsed with seed 0"):
        ask(tmp_path)


def test_an_unfair_rate_is_said(tmp_path, monkeypatch):
    def score(arm, lr, seed):
        if arm == "relu":  # the larger the better
            return effect(-3.0)(arm, 0.004, seed) - 5 * lr
        return effect(-3.0)(arm, lr, seed)

    pretend(monkeypatch, score)
    _, printed = ask(tmp_path)
    assert "LR not certified" in printed and "relu: its best rate is at the edge" in printed


def test_a_folder_keeps_to_one_question(tmp_path, monkeypatch):
    pretend(monkeypatch, effect(-3.0))
    ask(tmp_path)
    before = (tmp_path / "out/plan.json").read_bytes()
    with pytest.raises(UserError, match=r"before it was changed \(margin: 0.3 -> 0.5\): choose"):
        ask(tmp_path, margin=0.5)
    assert (tmp_path / "out/plan.json").read_bytes() == before
    machine = json.loads((tmp_path / "out/machine.json").read_text())
    assert machine["device"] == "cpu"
    write_kept(tmp_path / "out/machine.json", None, {"device": "cuda", "precision": "fp32"})
    with pytest.raises(UserError, match="made on cuda, and this command has cpu"):
        kept_by.settled_device(tmp_path / "out", "cpu")


def test_what_a_question_does_not_say_is_named_too(tmp_path):
    spec = read_spec(question(tmp_path))
    plan = make_plan(spec, where(tmp_path, spec.corpus))
    kept = json.loads(json.dumps(plan.content))
    for arm in kept["arms"].values():
        arm["train"]["precision"] = "bf16"
    assert kept_by.changes_of(kept, plan) == "train.precision: bf16 -> fp32"
    kept["spec"] |= {"seeds": 40, "margin": 1, "alpha": 0.02, "match": "bytes", "fixed": True}
    assert "seeds: 40 -> 24" in kept_by.changes_of(kept, plan)
    assert kept_by.changes_of(kept, plan).endswith("; 1 more")


def test_an_answer_names_the_conditions_of_its_runs(tmp_path, monkeypatch):
    jobs = pretend(monkeypatch, effect(-3.0))
    made = {"commit": "one", "date": "2026-01-01"}
    monkeypatch.setattr(kept_by, "environment", lambda device, precision: dict(made))
    written = lambda: json.loads((tmp_path / "out/answer.json").read_text())
    ask(tmp_path)
    made |= {"commit": "two", "date": "2026-01-02"}
    ask(tmp_path)
    assert written()["environment"]["commit"] == "one", "no run was made at two"
    assert "environments" not in written()
    jobs.clear()  # as if they had been lost
    ask(tmp_path)
    assert [each["commit"] for each in written()["environments"]] == ["one", "two"]
    made["date"] = "2026-01-03"
    jobs.clear()
    ask(tmp_path)
    assert len(written()["environments"]) == 2


def test_the_answer_of_a_folder_is_shown_without_its_question(tmp_path, monkeypatch):
    pretend(monkeypatch, effect(-3.0))
    found, _ = ask(tmp_path)
    printed = io.StringIO()
    print_stored(tmp_path / "out", Console(file=printed, width=140))
    assert found.sentences[0] in printed.getvalue() and "not final" not in printed.getvalue()
    with pytest.raises(UserError, match="holds no answer"):
        print_stored(tmp_path, Console(quiet=True))


def test_a_repeated_command_does_not_write_earlier_states(tmp_path, monkeypatch):
    pretend(monkeypatch, effect(-0.5, 0.04))
    states = []
    monkeypatch.setattr(module, "write_results", lambda found, out: states.append(found.final))
    ask(tmp_path, seeds=14)
    assert states == [False, False, True, True]
    states.clear()
    ask(tmp_path, seeds=14)
    assert states == [True]


def test_an_arm_that_becomes_undecided_again_gets_the_seeds_that_it_missed(tmp_path, monkeypatch):
    class Wavering(Answer):
        @property
        def undecided(self):
            return {6: [], 7: ["relu"], 11: ["silu", "relu"]}.get(len(self.runs["baseline"]), [])

    def answer(*words):
        found = judged(*words)
        return Wavering(**{field.name: getattr(found, field.name) for field in fields(found)})

    judged = module.answer
    monkeypatch.setattr(module, "answer", answer)
    pretend(monkeypatch, effect(-0.5, 0.04))
    arms = {"silu": {"ffn": "silu"}, "relu": {"ffn": "relu"}}
    found, _ = ask(tmp_path, arms=arms, seeds=20)
    assert fewest_pairs(0.005) == 7
    assert all(list(runs) == list(range(15)) for runs in found.runs.values())


def test_a_failed_run_is_no_mistake_of_the_user(tmp_path, monkeypatch):
    def run_jobs(groups, *words):
        return Summary([], [Failed(groups[0][0], "it failed")])

    monkeypatch.setattr(cells, "run_jobs", run_jobs)
    with pytest.raises(RunFailed, match="it failed; without it nothing can be answered") as error:
        ask(tmp_path)

    def app(standalone_mode):
        raise error.value

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr("sys.argv", ["mytnano", "ablate"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1


def test_finished_runs_take_no_more_time(tmp_path):
    spec = read_spec(question(tmp_path))
    place = where(tmp_path, spec.corpus)
    plan, runner = make_plan(spec, place), Runner(place, 0, 1e4, Console(quiet=True))
    assert module._finished(runner) == (0, 0.0)
    job = runner.job(plan.baseline, 1e-3, 0, "confirmed")
    for name, text in (
        ("config.json", plan.baseline.config.model_dump_json()),
        ("manifest.json", ""),
    ):
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / name).write_text(text)
    assert module._finished(runner) == (1, pytest.approx(job.expected_seconds))
    (job.folder / "config.json").write_text("{")
    assert module._finished(runner) == (0, 0.0), "a damaged one is made again"


def test_a_plan_that_is_lost_is_not_made_up_for(tmp_path):
    ask(tmp_path, seeds=4, alpha=0.2)
    (tmp_path / "out/plan.json").write_text("{}")
    with pytest.raises(UserError, match=r"plan.json is missing or damaged"):
        ask(tmp_path, seeds=5, alpha=0.2)


def test_a_refused_question_trains_nothing(tmp_path, monkeypatch):
    jobs = pretend(monkeypatch, effect(0.0))
    with pytest.raises(UserError, match="2 design choices"):
        ask(tmp_path, arms={"a": {"ffn": "relu", "norm": "none"}})
    assert not jobs and not (tmp_path / "out/plan.json").exists()


def test_a_plan_alone_trains_nothing_and_leaves_the_folder_free(tmp_path, monkeypatch):
    jobs = pretend(monkeypatch, effect(-3.0))
    printed = io.StringIO()
    console = Console(file=printed, width=140)
    with in_fp32():  # as the question is asked below
        plan = show_plan(question(tmp_path), tmp_path / "out", console, workers=0)
    said = printed.getvalue()
    assert "relu: model.ffn: gelu -> relu" in said and " on this machine if every seed" in said
    assert "24 seeds detect a difference of " in said
    assert " paired standard deviations with probability 0.8" in said
    assert not jobs and not (tmp_path / "out/plan.json").exists()
    found, _ = ask(tmp_path)
    assert found.plan.hash == plan.hash


def test_twins_share_the_baselines_rate(tmp_path, monkeypatch):
    jobs = pretend(monkeypatch, effect(0.0))
    found, printed = ask(tmp_path, arms={"twin": {"salt": "t"}}, seeds=8)
    assert found.rates["twin"] is found.rates["baseline"]
    assert not any(j.rung == "twin" and j.config[2]["group"] == "tuning" for j in jobs)
    assert "twin: an A/A twin" in printed


def test_looks():
    spec = Spec(arms={"a": {"ffn": "relu"}}, seeds=15)
    first = fewest_pairs(0.01)
    found = [list(look) for look in looks(spec, 1)]
    assert found[0] == list(range(first))
    assert [seed for look in found for seed in look] == list(range(15))
    assert len(list(looks(Spec(arms={"a": {}}, seeds=3), 1))) == 1
