import io

import pytest
from rich.console import Console
from runs_toys import toy_groups, toy_job, toy_work

from mytnano.runs.jobs import Failed, Finished, Note, Started, Told
from mytnano.runs.progress import (
    LiveDisplay,
    PlainDisplay,
    Tracker,
    duration,
    progress_display,
)
from mytnano.runs.runner import run_jobs
from mytnano.training.care import Progress


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def plain(jobs, workers=1, clock=None):
    text = io.StringIO()
    console = Console(file=text, width=40)
    return PlainDisplay(Tracker(jobs, workers, clock or Clock()), console), text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (45.4, "45 s"),
        (59.7, "1 min 00 s"),
        (250, "4 min 10 s"),
        (3599.9, "1 h 00 min"),
        (3900, "1 h 05 min"),
    ],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


def jobs_of(tmp_path, *seconds):
    return [toy_job(tmp_path, f"j{n}", 0, s) for n, s in enumerate(seconds)]


def test_time_left_counts_the_workers(tmp_path):
    jobs = jobs_of(tmp_path, 10, 10, 10, 10)
    assert Tracker(jobs, 1).seconds_left() == 40
    assert Tracker(jobs, 2).seconds_left() == 20
    assert Tracker(jobs, 3).seconds_left() == 20, "four equal jobs on three workers"
    assert Tracker(jobs, 9).seconds_left() == 10
    assert Tracker(jobs_of(tmp_path, 1, 1, 9), 2).seconds_left() == 9, "the longest one decides"
    assert Tracker([], 2).seconds_left() == 0


def test_time_left_is_corrected_by_what_is_observed(tmp_path):
    jobs, clock = jobs_of(tmp_path, *[10] * 20), Clock()
    tracker = Tracker(jobs, 1, clock)
    for job in jobs[:15]:
        tracker.hear(Started(job))
        clock.now += 20
        tracker.hear(Finished(job, {}, 20.0))
    assert tracker.seconds_left() == pytest.approx(100, rel=0.1), "twice as slow as expected"
    assert tracker.fraction == pytest.approx(0.75)
    tracker.hear(Started(jobs[15]))
    clock.now += 10
    tracker.hear(Told(jobs[15], Progress(50, 100, 1.0, None, 0.0)))
    assert tracker.seconds_left() == pytest.approx(90, rel=0.1)
    assert tracker.elapsed == 310


def test_reused_and_failed_runs_are_done_but_prove_no_speed(tmp_path):
    jobs = jobs_of(tmp_path, 10, 10, 10)
    tracker = Tracker(jobs, 1)
    tracker.hear(Finished(jobs[0], {}, 0.0, reused=True))
    tracker.hear(Started(jobs[1]))
    tracker.hear(Failed(jobs[1], "it failed"))
    assert tracker.seconds_left() == 10
    assert (tracker.done, tracker.failed, tracker.reused) == (2, 1, 1)


def test_plain_lines(tmp_path):
    jobs, clock = jobs_of(tmp_path, 10, 10, 10, 10), Clock()
    display, text = plain(jobs, 2, clock)
    with display:
        display(Finished(jobs[0], {}, 0.0, reused=True))
        display(Note("no compiler: runs eagerly"))
        display(Started(jobs[1]))
        for step in range(1, 11):
            clock.now += 2
            display(Told(jobs[1], Progress(step, 10, 3.2, 2.25 if step >= 2 else None, 36_000.0)))
        display(Finished(jobs[1], {"test_bpb": 2.125, "status": "healthy"}, 20.0))
        display(Started(jobs[2]))
        display(Failed(jobs[2], "j2-s0 failed [sadly]"))
    assert text.getvalue().splitlines() == [
        "no compiler: runs eagerly",
        "finished already: 1 of 4 runs",
        "  about 17 s left; j1-s0 step 8/10, loss 3.200, 2.250 bpb, 36,000 tokens/s",
        "[2/4] j1-s0: 2.125 bpb, healthy, 20 s",
        "j2-s0 failed [sadly]",
    ]


def test_plain_lines_come_at_most_every_fifteen_seconds(tmp_path):
    (job,), clock = jobs_of(tmp_path, 100), Clock()
    display, text = plain([job], 1, clock)
    display(Started(job))
    for step in range(100):
        clock.now += 1
        display(Told(job, Progress(step, 100, 1.0, None, 0.0)))
    assert len(text.getvalue().splitlines()) == 6


def test_everything_reused_is_said(tmp_path):
    jobs = jobs_of(tmp_path, 1, 1)
    display, text = plain(jobs)
    with display:
        for job in jobs:
            display(Finished(job, {}, 0.0, reused=True))
    assert text.getvalue() == "finished already: 2 of 2 runs\n"


def test_live_display_shows_the_running_jobs_and_the_whole(tmp_path):
    jobs = jobs_of(tmp_path, 10, 10, 10)
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True, color_system=None)
    clock = Clock()
    display = LiveDisplay(Tracker(jobs, 2, clock), console)
    with display:
        display(Started(jobs[0]))
        clock.now += 5
        display(Told(jobs[0], Progress(5, 10, 3.25, None, 1234.0)))
        display(Started(jobs[1]))
        with console.capture() as shown:
            console.print(display._render())
        display(Finished(jobs[0], {"test_bpb": 2.0}, 10.0))
    lines = [line.split() for line in shown.get().splitlines()]
    assert lines[0][:2] == ["j0", "s0"]
    assert " ".join(lines[0][3:]) == "step 5/10, loss 3.250, 1,234 tokens/s"
    assert lines[1][:2] == ["j1", "s0"] and lines[1][-1] == "starting"
    assert " ".join(lines[2][1:]) == "0/3 runs 5 s so far about 15 s left"
    assert "[1/3] j0-s0: 2.000 bpb, 10 s" in text.getvalue()


def test_live_display_ends_on_ctrl_c(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True)
    display = LiveDisplay(Tracker(jobs_of(tmp_path, 1), 1), console)
    with pytest.raises(KeyboardInterrupt), display:
        raise KeyboardInterrupt
    assert not display._live.is_started


def test_the_console_chooses_the_display(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    groups = toy_groups(tmp_path)
    pipe, terminal = io.StringIO(), io.StringIO()
    assert isinstance(progress_display(groups, 2, Console(file=pipe)), PlainDisplay)
    live = progress_display(groups, 2, Console(file=terminal, force_terminal=True))
    assert isinstance(live, LiveDisplay)
    assert live.tracker.total == 10


def test_with_the_runner(tmp_path):
    text = io.StringIO()
    groups = toy_groups(tmp_path, rungs=2, seconds=0.01)
    with progress_display(groups, 2, Console(file=text)) as display:
        run_jobs(groups, toy_work, 2, 1, display)
    lines = sorted(text.getvalue().splitlines())
    assert [line.split("]")[0] for line in lines] == ["[1/4", "[2/4", "[3/4", "[4/4"]
    assert {line.split()[1] for line in lines} == {"r0-s0:", "r0-s1:", "r1-s0:", "r1-s1:"}
