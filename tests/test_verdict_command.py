"""`mytnano verdict`: files of any trainer, and what is said of them."""

import math
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from verdict_toys import EFFECTS, ROOT, SEEDS, command, rows_of, values, write

from mytnano.stats import Pairs, Rule, judge
from mytnano.verdicts.table import read_table


@pytest.fixture
def verdict(monkeypatch, tmp_path, capsys):
    return command(monkeypatch, tmp_path, capsys)


@pytest.mark.parametrize("odd", ["\x0b", "\x1c", "\x85", "\u2028"])
def test_only_line_ends_end_a_line(tmp_path, odd):
    path = tmp_path / "runs.csv"
    path.write_bytes(f"arm,seed\r\na{odd}b,0\r\nc,1\r\n".encode())
    rows = read_table(path).rows
    assert rows == [(2, {"arm": f"a{odd}b", "seed": "0"}), (3, {"arm": "c", "seed": "1"})]


def words_of(found):
    return {row["name"]: row["verdict"] for row in found["arms"]}


def test_a_sentence_an_arm_a_table_and_json(verdict):
    code, out, err, found = verdict(rows_of(values()), "--baseline", "relu")
    assert (code, err) == (0, "")
    assert words_of(found) == {
        "swiglu": "better", "gelu": "equivalent", "same": "identical", "bad": "worse",
    }  # fmt: skip
    lines = out.splitlines()
    assert lines[:4] == [row["sentence"] for row in found["arms"]]
    better, equal, identical, worse = lines[:4]
    assert better.startswith("swiglu is better than relu by ")
    assert ", 12 paired seeds, p < 0.0001" in better and worse.startswith(
        "bad is worse than relu by "
    )
    assert equal.startswith("gelu is equivalent to relu: ")
    assert "is inside the margin of 0.3 %, 12 paired seeds" in equal
    assert identical == "same is identical to relu: not one of 12 paired seeds differs"
    table = [line.split() for line in lines if line.startswith((" swiglu ", " bad "))]
    assert [row[1] for row in table] == ["better", "worse"]
    assert max(map(len, (line for line in lines if line.startswith(" ")))) <= 80
    assert "alpha 0.01" in out and "however often one looks" in out


def test_the_numbers_are_those_of_the_library(verdict):
    metrics = values()
    *_, found = verdict(rows_of(metrics), "--alpha", "0.02", "--margin", "0.2")
    by_arm = {name: np.array([metrics[name, seed] for seed in range(SEEDS)]) for name in EFFECTS}
    arms = [Pairs(name, by_arm[name], by_arm["relu"]) for name in EFFECTS if name != "relu"]
    for row, expected in zip(found["arms"], judge(arms, Rule(0.02, 0.2)), strict=True):
        assert row["name"] == expected.name and row["verdict"] == expected.verdict
        assert row["p_adjusted"] == pytest.approx(expected.p_adjusted)
        assert row["low"] == pytest.approx(expected.low)
    assert found["rule"]["alpha"] == 0.02
    assert found["arms"][0]["seeds"] == [str(seed) for seed in range(SEEDS)]


def test_the_sentence_gives_size_and_interval_in_the_direction_it_names(verdict):
    *_, found = verdict(rows_of(values()), "--baseline", "relu")
    row = next(row for row in found["arms"] if row["name"] == "swiglu")
    size, _, rest = row["sentence"].partition("by ")[2].partition(" % [")
    low, high = (float(each) for each in rest.partition("]")[0].split(", "))
    assert 0 < low < float(size) < high
    assert -row["difference"] == pytest.approx(float(size), abs=0.005)
    assert (-row["high"], -row["low"]) == pytest.approx((low, high), abs=0.005)


def test_neither_the_order_of_rows_nor_the_way_they_are_written_matters(verdict, tmp_path):
    rows = rows_of(values())
    first = verdict(rows, "--baseline", "relu")
    assert verdict(rows, "--baseline", "relu") == first, "deterministic"
    body = rows[:]
    random.Random(3).shuffle(body)
    shuffled = verdict(body, "--baseline", "relu")[3]
    by_name = {row["name"]: row for row in shuffled["arms"]}
    assert [by_name[row["name"]] for row in first[3]["arms"]] == first[3]["arms"]
    for delimiter in ";\t":
        write(tmp_path / "runs.csv", rows, delimiter)
        assert verdict(None, "--baseline", "relu")[3]["arms"] == first[3]["arms"]
    text = write(tmp_path / "runs.csv", rows).read_text().replace(",3,", ",3.0,")
    assert (
        verdict("\ufeff" + text.replace("\n", "\r\n\r\n,,\r\n"), "--baseline", "relu")[3]["arms"]
        == first[3]["arms"]
    ), "a byte-order mark, blank lines, seeds as other libraries write them"


def test_the_baseline_is_the_one_called_so_else_the_first_and_that_is_said(verdict):
    metrics = values({"new": -1.0, "baseline": 0.0})
    _, out, _, found = verdict(rows_of(metrics))
    assert found["baseline"][0]["name"] == "baseline" and "none is called" not in out
    _, out, _, found = verdict(rows_of(values()))
    assert found["baseline"][0]["name"] == "relu"
    assert "note: the baseline is relu, the first arm in the file, as none is called" in out


def test_names_are_printed_as_they_are(verdict):
    _, out, _, _ = verdict(rows_of(values({"relu": 0.0, "[red]x[/red]": -1.0, "[/x": 2.0})))
    assert out.count("[red]x[/red] ") == 2 and out.count("[/x ") == 2


def test_some_arms_can_be_chosen_and_that_is_said(verdict):
    rows = rows_of(values())
    rows[-1]["metric"] = "broken"  # of an arm that is not looked at
    code, out, _, found = verdict(rows, "--compare", "swiglu,gelu")
    assert code == 0 and list(words_of(found)) == ["swiglu", "gelu"]
    assert "note: 2 of 4 arms are judged, and Holm's procedure counts only these" in out
    assert verdict(rows, "--compare", "swiglu", "--compare", "gelu")[3]["arms"] == found["arms"]


def test_higher_can_be_better(verdict):
    rows = rows_of(values())
    assert words_of(verdict(rows, "--higher-is-better")[3])["swiglu"] == "worse"
    assert words_of(verdict(rows, "--higher-is-better")[3])["bad"] == "better"


def test_a_fixed_number_of_seeds(verdict):
    _, out, _, found = verdict(rows_of(values()), "--fixed")
    assert "right only if the number of seeds was fixed beforehand" in out
    assert "sign-flip p = " in out.splitlines()[0]
    assert found["arms"][0]["p"] == found["arms"][0]["paired_t_p"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(verdict, seeds):
    code, out, _, found = verdict(rows_of(values({"relu": 0.0, "bad": 20.0}, seeds)))
    assert code == 0 and words_of(found) == {"bad": "unresolved"}
    plural = "s" if seeds > 1 else ""
    assert out.startswith(
        f"bad against relu is unresolved: {seeds} paired seed{plural} cannot decide at this alpha, "
        "whatever they show; it takes at least 6\n"
    )
    assert found["arms"][0]["detectable"] is None and found["arms"][0]["low"] is None


def test_unresolved_says_what_would_have_been_found(verdict):
    _, out, _, found = verdict(rows_of(values({"relu": 0.0, "x": 0.1}, deviation=0.5)))
    row = found["arms"][0]
    assert row["verdict"] == "unresolved" and row["pairs_for_margin"] > SEEDS
    size = f"{row['detectable_percent']:.2g}"
    found = f"this many seeds would detect a difference of {size} % with probability 0.8"
    assert f"; {found}; about " in out
    assert f"about {row['pairs_for_margin']} would narrow the interval to the margin" in out


def test_a_real_but_small_difference_is_equivalent_and_said_to_be_real(verdict):
    _, out, _, found = verdict(rows_of(values({"relu": 0.0, "x": 0.12}, deviation=0.02)))
    assert found["arms"][0]["verdict"] == "equivalent" and found["arms"][0]["detected"] == "worse"
    assert "; the difference is real (p " in out and "but too small to matter" in out


def test_the_column_of_seeds_has_a_name_of_its_own(verdict):
    rows = rows_of(values())
    renamed = [{**row, "try": row["seed"], "seed": 1} for row in rows]
    assert words_of(verdict(renamed, "--seed", "try")[3]) == words_of(verdict(rows)[3])


def test_a_seed_of_any_length_is_a_number(verdict):
    rows = rows_of(values({"relu": 0.0, "x": -1.0}))
    long = "1" + 5000 * "0"
    rows += [
        {"arm": arm, "seed": seed, "metric": 2.0}
        for arm, seed in (("relu", long), ("x", f"+0{long}"))
    ]
    code, _, _, found = verdict(rows)
    assert code == 0 and found["arms"][0]["pairs"] == SEEDS + 1


def test_seeds_that_change_nothing_are_noticed(verdict):
    rows = rows_of(values({"relu": 0.0, "x": None}))
    for row in rows:
        row["metric"] *= 0.98 if row["arm"] == "x" else 1.0
    _, out, _, found = verdict(rows)
    assert "note: every pair of x differs by the same amount; check that the seed reaches" in out
    assert found["arms"][0]["constant"]


def test_a_status_is_the_verdict_and_its_metric_may_be_missing(verdict):
    rows = rows_of(values(), status="healthy")
    for row in rows:
        if row["arm"] == "bad" and row["seed"] in (3, 5):
            row.update(status="Diverged", metric="nan" if row["seed"] == 3 else "")
    code, out, _, found = verdict(rows)
    assert code == 0 and words_of(found)["bad"] == "diverged"
    assert "bad has diverged, so it is not compared with relu" in out
    assert "note: 2 of 12 runs of bad are not healthy: seed 3, 5" in out
    assert words_of(found)["swiglu"] == "better"


def sweep(tried, effect=0.0, arm="x", seeds=SEEDS):
    """Rows of one arm at several rates, the best of which is the one listed with 0."""
    metrics = values({"relu": 0.0, arm: effect}, seeds)
    return [
        {"arm": arm, "seed": seed, "metric": metrics[arm, seed] * (1 + cost), "lr": lr}
        for lr, cost in tried.items()
        for seed in range(seeds)
    ]


def test_the_best_learning_rate_of_each_arm_is_taken_and_the_bias_said(verdict):
    base = sweep({0.001: 0.02, 0.002: 0.0, 0.004: 0.03}, arm="relu")
    more = sweep({0.001: 0.03, 0.002: 0.02, 0.004: 0.0, 0.008: 0.05}, -1.0)
    _, out, _, found = verdict(base + more)
    assert found["baseline"][0]["lr"] == 0.002 and found["arms"][0]["lr"] == 0.004
    assert found["arms"][0]["lrs_tried"] == [0.001, 0.002, 0.004, 0.008]
    alone = verdict(
        [row for row in base + more if row["lr"] == {"relu": 0.002, "x": 0.004}[row["arm"]]]
    )
    assert alone[3]["arms"][0]["low"] == found["arms"][0]["low"]
    assert "note: each arm's learning rate was chosen on the seeds that judge it" in out
    assert "different numbers of learning rates: relu 3, x 4" in out
    assert "learning rate" not in alone[1] and "one beyond may be better" not in out


def test_a_best_rate_at_the_end_of_the_grid_is_said(verdict):
    base = sweep({0.001: 0.02, 0.002: 0.0, 0.004: 0.03}, arm="relu")
    _, out, _, _ = verdict(base + sweep({0.001: 0.02, 0.002: 0.01, 0.004: 0.0}))
    assert "note: the best learning rate of x, 0.004, is the largest that it tried" in out
    assert "different numbers" not in out


def test_a_rate_that_diverges_is_not_chosen(verdict):
    base = sweep({0.002: 0.0}, arm="relu")
    arm = sweep({0.002: 0.0, 0.004: -0.3})
    for row in arm:
        row["status"] = "diverged" if row["lr"] == 0.004 and row["seed"] == 2 else ""
    *_, found = verdict(base + arm)
    assert found["arms"][0]["lr"] == 0.002 and found["arms"][0]["verdict"] != "diverged"


def test_higher_is_better_chooses_the_highest_rate(verdict):
    base = sweep({0.002: 0.0}, arm="relu")
    *_, found = verdict(base + sweep({0.001: 0.0, 0.002: 0.1}), "--higher-is-better")
    assert found["arms"][0]["lr"] == 0.002


def with_compute(arm_flops, levels=(0.25, 0.5, 1.0, 2.0, 4.0), effect=-1.0):
    """The baseline falls by a power law, so that the answer is known."""
    metrics = values({"relu": 0.0, "x": effect}, deviation=0.02)
    rows = [
        {
            "arm": "relu",
            "seed": s,
            "metric": metrics["relu", s] * level**-0.05,
            "flops": 1e15 * level,
        }
        for level in levels
        for s in range(SEEDS)
    ]
    return rows + [
        {"arm": "x", "seed": s, "metric": metrics["x", s], "flops": 1e15 * arm_flops}
        for s in range(SEEDS)
    ]


def test_compute_becomes_a_multiplier(verdict):
    _, out, _, found = verdict(with_compute(1.0))
    worth = found["arms"][0]["compute_multiplier"]
    expected = 0.99 ** (1 / -0.05)
    assert worth["value"]["value"] == pytest.approx(expected, rel=0.02)
    assert worth["low"]["value"] < worth["value"]["value"] < worth["high"]["value"]
    assert f"; worth {worth['value']['value']:.3g}x [" in out.splitlines()[0]
    assert len(found["baseline"]) == 5 and found["arms"][0]["verdict"] == "better"
    cheaper = verdict(with_compute(0.5))[3]["arms"][0]
    assert cheaper["compute_multiplier"]["value"]["value"] == pytest.approx(2 * expected, rel=0.02)
    assert cheaper["difference"] < found["arms"][0]["difference"], "held against the nearest amount"
    assert "> 4x" in verdict(with_compute(1.0, effect=-20.0))[1]
    assert "< 1/4x" in verdict(with_compute(1.0, effect=20.0))[1]


def test_an_unhealthy_amount_is_left_out_unless_arms_are_compared_there(verdict):
    def failed(level):
        rows = with_compute(1.0)
        for row in rows:
            bad = row["arm"] == "relu" and row["flops"] == 1e15 * level and row["seed"] == 3
            row["status"] = "collapsed" if bad else ""
        return verdict(rows)

    code, out, _, found = failed(0.25)
    assert code == 0 and len(found["baseline"]) == 4
    assert found["arms"][0]["compute_multiplier"]["value"]["value"] > 1
    assert "note: relu at 2.5e+14 FLOPs is left out, as seed 3 is collapsed" in out
    code, _, err, _ = failed(1.0)
    assert code == 2 and "the baseline relu is not healthy, as seed 3 is collapsed" in err


def test_a_multiplier_of_a_metric_that_should_be_high(verdict):
    rows = [row | {"metric": 1 / row["metric"]} for row in with_compute(1.0)]
    low = verdict(with_compute(1.0))[3]["arms"][0]["compute_multiplier"]
    high = verdict(rows, "--higher-is-better")[3]["arms"][0]["compute_multiplier"]
    for end in ("value", "low", "high"):
        assert high[end]["value"] == pytest.approx(low[end]["value"], rel=1e-6)


def test_a_baseline_that_does_not_fall_with_compute_has_no_multiplier(verdict):
    rows = with_compute(1.0)
    for row in rows:
        if row["arm"] == "relu" and row["flops"] > 1e15:
            row["metric"] *= 1.5
    code, out, _, found = verdict(rows)
    assert code == 0 and "compute_multiplier" not in found["arms"][0]
    assert "note: the baseline's loss does not fall with compute" in out


@pytest.mark.parametrize(("flops", "said"), [(1.005, False), (1.03, True), (0.97, True)])
def test_unequal_compute_is_said(verdict, flops, said):
    _, out, _, _ = verdict(with_compute(flops, levels=(1.0,)))
    assert ("x was trained with 3 % " in out) == said
    assert "worth" not in out


def test_a_ladder_can_be_read(verdict):
    path = ROOT / "results/ladder/quick/results.csv"
    text = path.read_text(encoding="utf-8")
    arms = ["--arm", "rung", "--baseline", "bpe", "--compare", "rmsnorm,swiglu,stack"]
    for metric in ("test_bpb", "validation_bpb"):
        code, out, _, found = verdict(text, *arms, "--metric", metric)
        assert code == 0
        assert words_of(found)["rmsnorm"] == words_of(found)["swiglu"] == "unresolved"
        assert words_of(found)["stack"] == "collapsed"
        assert "paired seeds cannot decide" in out and "FLOPs than bpe" in out


def test_torch_is_not_imported(tmp_path):
    path = write(tmp_path / "runs.csv", rows_of(values()))
    code = (
        "import sys\nfrom mytnano import cli\n"
        f"sys.argv = ['mytnano', 'verdict', {str(path)!r}]\n"
        "try: cli.main()\nexcept SystemExit as ended: assert not ended.code\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "swiglu is better than relu" in done.stdout


def test_names_of_seeds_need_not_be_numbers(verdict):
    rows = rows_of(values())
    for row in rows:
        row["seed"] = f"run-{row['seed']}"
    *_, found = verdict(rows)
    seeds = found["arms"][0]["seeds"]
    assert seeds == sorted(seeds) and words_of(found)["swiglu"] == "better"
    assert math.isfinite(found["arms"][0]["low"])


def test_seeds_that_do_not_tell_their_order_have_only_a_last_look(verdict):
    """Sorted, they would give looks at subsets that nobody had when the runs were made."""
    effect = [-3.0] * 8 + [2.0, -8.0]  # clear after eight, and not after ten
    rows = [
        {"arm": arm, "seed": seed, "metric": 2.0 * math.exp(d * (arm == "new") / 100)}
        for seed, d in enumerate(effect)
        for arm in ("old", "new")
    ]
    for place, row in enumerate(rows):
        row["metric"] *= 1 + 1e-4 * math.sin(place)
    _, out, _, found = verdict(rows)
    running = found["arms"][0]
    assert "order in which they were run" not in out
    for row in rows:
        row["seed"] = 7 + 3 * row["seed"]
    _, out, _, found = verdict(rows)
    last = found["arms"][0]
    assert "seeds of new are not whole numbers without a gap" in out
    assert last["log10_bayes_factor"] < running["log10_bayes_factor"]
    assert last["p"] == pytest.approx(min(1.0, 10 ** -last["log10_bayes_factor"]))
    assert last["p"] > running["p"]


def test_long_seeds_are_not_rounded_together(verdict):
    rows = rows_of(values())
    for row in rows:
        row["seed"] = 20250101000000001 + row["seed"]
    code, _, err, found = verdict(rows)
    assert (code, err) == (0, "") and found["arms"][0]["seeds"][0] == "20250101000000001"


def test_an_arm_with_a_status_needs_no_seed_of_the_baseline(verdict):
    rows = rows_of(values({"relu": 0.0, "swiglu": -1.0}))
    rows.append({"arm": "x", "seed": 99, "metric": "", "status": "diverged"})
    for row in rows:
        row.setdefault("status", "")
    code, _, err, found = verdict(rows)
    assert (code, err) == (0, "") and words_of(found)["x"] == "diverged"


def stopped(rows, arm, count, word="decided"):
    """The rows of a question whose arm got no more than its first seeds."""
    kept = [row for row in rows if row["arm"] != arm or row["seed"] < count]
    return [row | {"stopped": word if row["arm"] == arm else ""} for row in kept]


def test_an_arm_that_was_decided_early_needs_no_later_seeds(verdict):
    rows = rows_of(values())
    code, out, _, found = verdict(stopped(rows, "swiglu", 9))
    assert code == 0 and words_of(found)["swiglu"] == "better"
    assert "note: swiglu was decided after the first 9 of 12 seeds, so later ones of relu" in out
    alone = verdict([row for row in rows if row["seed"] < 9])[3]["arms"][0]
    by_name = {row["name"]: row for row in found["arms"]}
    assert by_name["swiglu"]["low"] == pytest.approx(alone["low"])
    assert by_name["gelu"]["pairs"] == 12


def test_fewer_seeds_without_a_reason_are_refused(verdict):
    rows = rows_of(values())
    assert "swiglu lacks 9, 10, 11" in verdict(stopped(rows, "swiglu", 9, ""))[2]
    assert "swiglu lacks 9, 10, 11" in verdict(stopped(rows, "swiglu", 9), "--fixed")[2]
    gap = [row for row in stopped(rows, "swiglu", 9) if (row["arm"], row["seed"]) != ("swiglu", 3)]
    assert "swiglu lacks 3, 9, 10, 11" in verdict(gap)[2]
    assert (
        "stopped is 'maybe', but it is empty, or 'decided'"
        in (verdict(stopped(rows, "swiglu", 9, "maybe"))[2])
    )
    failed = [row | {"status": ""} for row in rows if row["arm"] != "bad" or row["seed"] < 2]
    for row in failed:
        row["status"] = "diverged" if row["arm"] == "bad" and row["seed"] == 1 else ""
    assert words_of(verdict(failed)[3])["bad"] == "diverged"


def test_the_labs_own_results_are_accepted(verdict, tmp_path, monkeypatch):
    from lab_toys import ask, pretend

    def score(arm, lr, seed):
        chance = random.Random(f"{arm}{seed}").gauss(0, 0.001 if arm == "silu" else 0.03)
        return 2.0 * (0.97 if arm == "silu" else 1.0) + chance + math.log2(lr / 0.004) ** 2 / 50

    pretend(monkeypatch, score)
    arms = {"silu": {"ffn": "silu"}, "relu": {"ffn": "relu"}}
    found, _ = ask(tmp_path, arms=arms, seeds=14)
    assert len(found.runs["silu"]) < len(found.runs["baseline"])
    (tmp_path / "runs.csv").write_bytes((tmp_path / "out/results.csv").read_bytes())
    code, _, _, said = verdict(None)
    assert code == 0
    for row, own in zip(said["arms"], found.verdicts, strict=True):
        assert (row["verdict"], row["pairs"]) == (own.verdict, own.pairs)
        assert row["low"] == pytest.approx(own.low)
