"""What is seen of a question: the live state, the figure, fixed plans, the interface in Python."""

import io
import re
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import pytest
from lab_toys import ask, pretend, question, scores, where
from rich.console import Console

from mytnano import lab
from mytnano.lab.cells import Runner
from mytnano.lab.figure import answer_figure
from mytnano.lab.live import PairWatch, TuningWatch
from mytnano.lab.plan import make_plan
from mytnano.lab.run import looks
from mytnano.lab.spec import Spec, read_spec
from mytnano.runs.jobs import Finished

ROOT = Path(__file__).resolve().parent.parent


def shown(watch):
    printed = io.StringIO()
    Console(file=printed, width=120).print(watch.table())
    return printed.getvalue()


@pytest.fixture
def bench(tmp_path):
    spec = read_spec(question(tmp_path, seeds=12))
    place = where(tmp_path, spec.corpus)
    return make_plan(spec, place), Runner(place, 0, 1e4, Console(quiet=True))


def finished(bench, arm, seed, bpb, group="confirmed", status="healthy", lr=0.004):
    plan, cells = bench
    result = {"test_bpb": bpb, "validation_bpb": bpb, "status": status}
    return Finished(cells.job(plan.arm(arm), lr, seed, group), result, 1.0)


def test_pairs_are_told_as_they_come_in_whatever_their_order(bench):
    watch = PairWatch(bench[0])
    assert watch.hear(finished(bench, "relu", 0, 1.9)) is None, "no pair yet"
    assert watch.hear(finished(bench, "baseline", 0, 2.0)) == "  relu: 1 pair, -5.00 %"
    for seed in (5, 4, 3, 2, 1):
        watch.hear(finished(bench, "baseline", seed, 2.0 + 0.01 * seed))
        line = watch.hear(finished(bench, "relu", seed, 1.9 + 0.011 * seed))
    assert line.startswith("  relu: 6 pairs, -4.8") and "the rule needs BF 100, has" in line
    forward = PairWatch(bench[0])
    for seed in range(6):
        forward.hear(finished(bench, "baseline", seed, 2.0 + 0.01 * seed))
        forward.hear(finished(bench, "relu", seed, 1.9 + 0.011 * seed * (seed > 0)))
    assert forward.state("relu") == watch.state("relu")
    table = shown(watch)
    assert "6 of at most 12" in table and "[" in table and "100" in table
    assert watch.hear(finished(bench, "relu", 7, None, status="diverged")) is None


def test_seeds_of_a_size_are_all_run_and_decide_nothing(bench):
    watch = PairWatch(bench[0], 6)
    for seed in range(6):
        watch.hear(finished(bench, "baseline", seed, 2.0 + 0.01 * seed))
        line = watch.hear(finished(bench, "relu", seed, 1.9 + 0.011 * seed))
    assert line.startswith("  relu: 6 pairs, -4.") and "the rule needs" not in line
    table = shown(watch)
    assert "6 of 6" in table and "needed" not in table
    assert "the trend is fitted when every size is in" in table


def test_rates_are_told_as_they_come_in(bench):
    watch = TuningWatch(["baseline", "relu"], 2)
    first = finished(bench, "relu", 1_000_000, 2.0, "tuning")
    assert watch.hear(first) is None and "2.000 1/2" in shown(watch)
    second = finished(bench, "relu", 1_000_001, 2.2, "tuning")
    (shown_now,) = watch._found["relu"].values()
    assert watch.hear(second) == "  relu at LR 0.004: 2.100"
    assert len(shown_now) == 1, "what a live display reads from its thread does not change"
    watch.hear(finished(bench, "relu", 1_000_000, None, "tuning", lr=0.128))
    assert "diverged" in shown(watch)


def test_the_figure_shows_every_arm_and_every_pair_and_is_the_same_every_time(
    tmp_path, monkeypatch
):
    status = lambda arm, seed: "collapsed" if arm == "bad" and seed == 1 else "healthy"
    pretend(monkeypatch, scores({"silu": -2.0, "bad": 1.0}, 0.004), status)
    arms = {"silu": {"ffn": "silu"}, "bad": {"norm": "none"}, "gqa": {"kv_heads": 1}}
    found, _ = ask(tmp_path, arms=arms, seeds=12, question="What is <best> & why?")
    drawing = str(answer_figure(found))
    assert str(answer_figure(found)) == drawing
    for text in ("silu", "bad", "collapsed", "better", "gqa", "margin 0.3 %", "not certified"):
        assert text in drawing
    ET.fromstring((tmp_path / "out/answer.svg").read_text())
    written = (tmp_path / "out/answer.svg").read_text()
    assert "var(--" not in written and 'xmlns="http://www.w3.org/2000/svg"' in written


def test_a_fixed_plan_looks_once_and_uses_the_paired_t(tmp_path, monkeypatch):
    jobs = pretend(monkeypatch, scores({"relu": -2.0}))
    found, printed = ask(tmp_path, fixed=True, seeds=5)
    assert sum(job.config[2]["group"] == "confirmed" for job in jobs) == 10
    (verdict,) = found.verdicts
    assert verdict.verdict == "better" and verdict.p == verdict.paired_t_p
    assert "sign-flip p = " in printed and "all seeds are run before the first look" in printed
    assert [list(look) for look in looks(Spec(arms={"a": {}}, seeds=9, fixed=True), 1)] == [
        list(range(9))
    ]
    assert "how the interval closed" not in str(answer_figure(found))


def test_the_five_lines_of_the_documents_run(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs/lab.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(from mytnano\.lab import ablate.*?)```", text, re.DOTALL)
    assert len([line for line in block.splitlines() if line]) <= 5
    pretend(monkeypatch, scores({"relu": -2.0}))
    fields = {k: v for k, v in question(tmp_path).items() if k != "arms"} | {"seeds": 12}
    monkeypatch.setattr(lab, "ablate", partial(lab.ablate, workers=0, **fields))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/lab.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[1] in lines[0]
    assert list(tmp_path.glob("out/*/answer.json"))
