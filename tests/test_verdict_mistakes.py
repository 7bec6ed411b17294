"""`mytnano verdict`: every file and option that cannot be judged is refused in one sentence."""

import pytest
from verdict_toys import command

GOOD = "arm,seed,metric\na,0,2.0\nb,0,2.1\na,1,2.0\nb,1,2.1\na,2,2.0\nb,2,2.1\n"

FILES = [
    ("", "runs.csv is empty; its first line must name the columns"),
    ("arm,seed,metric\n", "runs.csv has no runs below its first line"),
    (
        GOOD.replace("metric", "loss"),
        "runs.csv has no column 'metric'; it has arm, seed, loss; name the right one with --metric",
    ),
    (
        GOOD.replace("arm", "model"),
        "runs.csv has no column 'arm'; it has model, seed, metric; name the right one with --arm",
    ),
    (
        GOOD.replace("seed", "try"),
        "no column 'seed'; it has arm, try, metric; name the right one with --seed",
    ),
    (GOOD.replace("seed", "arm"), "runs.csv has two columns 'arm'; rename one"),
    (GOOD + "a,3\n", "line 8 of runs.csv has 2 cells, but the first line names 3 columns"),
    (GOOD + 'a,3,"2.0\n', "line 8 of runs.csv is not CSV: unexpected end of data"),
    (GOOD + ",3,2.0\n", "line 8 of runs.csv names no arm"),
    (GOOD + "a,,2.0\n", "line 8 of runs.csv has no seed"),
    ("arm,seed,metric\na,0,2.0\na,1,2.0\n", "there is only one arm, 'a'; a verdict needs a second"),
]

SEEDS = [
    (GOOD + "a,3,2.0\n", "b and the baseline a need the same seeds, but b lacks 3; run these"),
    (GOOD + "b,7,2.0\nb,9,2.0\n", "need the same seeds, but a lacks 7, 9;"),
    (GOOD.replace("b,1,2.1", "b,8,2.1"), "but b lacks 1 and a lacks 8;"),
    (GOOD + "b,2,2.3\n", "lines 7 and 8 are both b, seed 2; remove one, or tell them apart by lr"),
    (GOOD + "b,2.0,2.3\n", "lines 7 and 8 are both b, seed 2"),
]

METRICS = [
    ("nan", "line 5 of runs.csv: b, seed 1: the metric is 'nan', which is not a number; fix it"),
    ("", "line 5 of runs.csv: b, seed 1: the metric is '', which is not a number"),
    ("inf", "the metric is 'inf'"),
    ("high", "the metric is 'high'"),
    ("-2.1", "line 5 of runs.csv: b, seed 1: the metric is -2.1, and differences are in percent"),
    ("0", "the metric is 0, and"),
]

STATUSES = [
    ("a,0,2.0,\nb,0,2.0,killed", "line 3 of runs.csv has status 'killed', but the statuses are"),
    ("a,0,2.0,collapsed\nb,0,2.0,", "the baseline a is not healthy, as seed 0 is collapsed"),
]

RATES = [
    ("a,0,2.0,0\nb,0,2.0,", "line 2 of runs.csv: lr is '0', not a positive number"),
    ("a,0,2,0.1\na,1,2,\nb,0,2,", "line 3 of runs.csv: some runs of a have a value of lr and some"),
    ("a,0,2,1\na,1,2,1\na,0,2,2\nb,0,2,1", "a has seeds 0, 1 at lr 1 but 0 at lr 2; give every lr"),
    ("a,0,2,1\nb,0,2,1\na,0,2,1", "lines 2 and 4 are both a, seed 0 at lr 1; remove one"),
]

COMPUTE = [
    ("a,0,2.0,x\nb,0,2.0,", "line 2 of runs.csv: flops is 'x', not a positive number"),
    (
        "a,0,2,1\nb,0,2,1\nb,0,2,2",
        "arm b has runs at 2 amounts of compute (1, 2 FLOPs), which",
    ),
    ("a,0,2,1\na,0,2,2\nb,0,2,", "the baseline has 2 amounts of compute, but b has no flops"),
]

OPTIONS = [
    ("--metric bpb", "no column 'bpb'"),
    ("--arm model", "no column 'model'"),
    ("--baseline c", "there is no arm 'c' to be the baseline; the arms are a, b"),
    ("--compare c", "there is no arm 'c' to compare; the arms are a, b"),
    ("--compare b,", "there is no arm '' to compare"),
    ("--compare a", "'a' is the baseline, so it cannot be compared"),
    ("--margin 0", "the margin is 0 %, but must lie between 0 and 100"),
    ("--margin -0.3", "the margin is -0.3 %"),
    ("--margin nan", "the margin is nan %"),
    ("--margin much", "'--margin'"),
    ("--alpha 0", "alpha is 0, but must lie between 0 and 0.5"),
    ("--alpha 0.5", "alpha is 0.5, but"),
]

MISTAKES = [
    *((text, "", said) for text, said in FILES + SEEDS),
    *((GOOD.replace("b,1,2.1", f"b,1,{metric}"), "", said) for metric, said in METRICS),
    *(
        (f"arm,seed,metric,{column}\n{body}\n", "", said)
        for column, group in (("status", STATUSES), ("lr", RATES), ("flops", COMPUTE))
        for body, said in group
    ),
    *((GOOD, options, said) for options, said in OPTIONS),
]


@pytest.fixture
def verdict(monkeypatch, tmp_path, capsys):
    return command(monkeypatch, tmp_path, capsys)


@pytest.mark.parametrize(("text", "options", "said"), MISTAKES)
def test_a_mistake_is_one_sentence_and_nothing_else(verdict, text, options, said):
    code, out, err, found = verdict(text, *options.split())
    assert (code, out, found) == (2, "", None)
    assert err.startswith("mytnano: ") and said in err
    assert err.count("\n") == 1 and "Traceback" not in err


def test_the_file_without_mistakes_is_judged(verdict):
    assert verdict(GOOD)[0] == 0


def test_files_that_cannot_be_read(verdict, tmp_path):
    assert "there is no file runs.csv" in verdict(None)[2]
    (tmp_path / "runs.csv").write_bytes(b"arm,seed,metric\n\xff\xfe,0,1\n")
    assert "runs.csv is not UTF-8 text" in verdict(None)[2]
    (tmp_path / "runs.csv").unlink()
    (tmp_path / "runs.csv").mkdir()
    assert "runs.csv cannot be read: Is a directory" in verdict(None)[2]


def test_a_place_that_cannot_be_written(verdict, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err, _ = verdict(GOOD, "--json", "file/x.json")
    assert code == 2 and out == "" and "cannot write file/x.json" in err
