"""The table in the terminal."""

import io

from rich.console import Console

from mytnano.designs.budgets import BUDGETS
from mytnano.ladder.table import print_table

KNOWN = [{"name": "kneser-ney-5", "bpb": 2.01}, {"name": "xz", "bpb": 2.6}]


def row(rung, seed, bpb, status="healthy", group="core"):
    return {
        "rung": rung, "seed": seed, "test_bpb": bpb, "status": status, "group": group,
        "vocab_size": 8192, "params": 2_890_000,
    }  # fmt: skip


def printed(rows, budget="quick"):
    text = io.StringIO()
    print_table(rows, KNOWN, BUDGETS[budget], Console(file=text, width=80))
    return text.getvalue()


def line(text, name):
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [name])


def test_a_row_a_rung_with_mean_and_every_status():
    text = printed([row("bpe", 0, 2.25), row("bpe", 1, 2.35), row("stack", 0, 4.4, "collapsed")])
    expected = ["bpe", "8,192", "2,890,000", "2.300", "2.250..2.350", "healthy"]
    assert line(text, "bpe") == expected
    assert line(text, "stack")[-2:] == ["4.400", "collapsed"]
    assert line(text, "xz") == ["xz", "2.600", "closed", "form"] and "bytes that a run" in text
    assert line(text, "5-gram")[1] == "2.010"
    assert "not comparable" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_no_mean_of_survivors():
    text = printed([row("bpe", 0, 2.25), row("bpe", 1, None, "diverged")])
    assert line(text, "bpe")[3:] == ["-", "diverged,", "healthy"]


def test_cells_of_the_depth_figure_are_not_rungs():
    cells = [row("depth-plain-8-0.002", 0, None, group="depth")]
    assert "depth" not in printed(cells)


def test_scores_on_part_of_the_test_text_are_marked():
    assert "first 64 KiB only" in " ".join(printed([row("bpe", 0, 2.25)], "smoke").split())
