import os
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest
from runs_toys import read_trace, started, toy_groups, toy_job, toy_work

from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.runs.jobs import Failed, Finished, Job, Note, Started, Told, carry_out
from mytnano.runs.runner import JobQueue, run_jobs
from mytnano.runs.store import RunFolder, finished_runs

both = pytest.mark.parametrize("workers", [0, 2])


def run(groups, workers, work=toy_work):
    events = []
    summary = run_jobs(groups, work, workers, 1, events.append)
    return summary, events


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def work_of_nobody(job, report):
    """Pickled by name here, absent where a worker looks for it."""


@both
def test_every_job_is_done_once_and_told(tmp_path, workers):
    groups = toy_groups(tmp_path, rungs=3, seconds=0.02)
    summary, events = run(groups, workers)
    everything = {job.name for group in groups for job in group}
    assert Counter(started(tmp_path)) == Counter(everything)
    assert {run.path.name for run in finished_runs(tmp_path)[0]} == {f"{n}-abc" for n in everything}
    assert summary.exit_code == 0 and summary.failed == []
    assert summary.results["r1-s1"] == {"rung": "r1", "seed": 1}
    for name in everything:
        own = [e for e in events if not isinstance(e, Note) and e.job.name == name]
        assert isinstance(own[0], Started) and isinstance(own[-1], Finished)
        assert of(Told, own)[-1].progress.step == 5
        assert not own[-1].reused and own[-1].seconds > 0.01
    summary, events = run(groups, workers)
    assert len(started(tmp_path)) == 6, "nothing was begun again"
    assert len(summary.results) == 6 and all(event.reused for event in summary.finished)
    assert of(Started, events) == []


def test_workers_are_processes_with_their_threads_and_live_for_many_jobs(tmp_path):
    before = dict(os.environ)
    groups = toy_groups(tmp_path, rungs=4, seconds=0.05)
    run_jobs(groups, toy_work, 2, 3, lambda event: None)
    trace = read_trace(tmp_path)
    processes = {words[2] for words in trace}
    assert len(processes) == 2 and str(os.getpid()) not in processes
    assert {words[3] for words in trace} == {"3"}
    assert dict(os.environ) == before
    run([[toy_job(tmp_path, "here", 0)]], workers=0)
    assert read_trace(tmp_path)[-1][2] == str(os.getpid())


@both
def test_a_job_that_raises_fails_alone(tmp_path, workers):
    bad = toy_job(tmp_path, "bad", 0, act="raise")
    summary, _ = run([[bad, toy_job(tmp_path, "bad", 1)], [toy_job(tmp_path, "good", 0)]], workers)
    assert summary.exit_code == 1
    assert set(summary.results) == {"bad-s1", "good-s0"}
    (failed,) = summary.failed
    path = bad.folder / "error.txt"
    assert failed.sentence == (
        f"bad-s0 failed (ZeroDivisionError: no such number); the traceback is in {path}"
    )
    assert 'raise ZeroDivisionError("no such number")' in path.read_text()
    good, _ = run([[toy_job(tmp_path, "bad", 0)]], workers)
    assert good.exit_code == 0 and not path.exists(), "a failed run starts again"


@both
def test_sys_exit_in_a_job_is_a_failure(tmp_path, workers):
    summary, _ = run([[toy_job(tmp_path, "a", 0, act="exit")]], workers)
    assert "SystemExit" in summary.failed[0].sentence


@both
@pytest.mark.parametrize(
    ("act", "sentence"), [("refuse", "the text is too short"), ("full", "no space left")]
)
def test_what_the_user_must_mend_ends_the_command(tmp_path, workers, act, sentence):
    groups = [
        [toy_job(tmp_path, "bad", 0, act=act)],
        [toy_job(tmp_path, f"slow{n}", 0, seconds=60) for n in range(5)],
    ]
    groups[0].append(toy_job(tmp_path, "rest", 0, seconds=999))  # the bad one's group comes first
    began = time.monotonic()
    with pytest.raises(UserError, match=sentence):
        run(groups, workers)
    assert time.monotonic() - began < 40, "the others were stopped"
    assert finished_runs(tmp_path) == ([], [])


def test_a_worker_that_dies_has_its_job_repeated_once(tmp_path):
    once, always = (
        toy_job(tmp_path, "once", 0, act="die once"),
        toy_job(tmp_path, "always", 0, act="die"),
    )
    rest = [toy_job(tmp_path, "rest", seed, seconds=0.02) for seed in range(3)]
    summary, events = run([[once], [always, *rest]], workers=2)
    assert Counter(started(tmp_path)) == Counter(
        {"once-s0": 2, "always-s0": 2, "rest-s0": 1, "rest-s1": 1, "rest-s2": 1}
    )
    assert set(summary.results) == {"once-s0", "rest-s0", "rest-s1", "rest-s2"}
    (failed,) = summary.failed
    assert failed.sentence == (
        "always-s0 failed: its worker died twice (SIGKILL, perhaps too little memory)"
    )
    notes = {note.sentence for note in of(Note, events)}
    assert "the worker of once-s0 died (SIGSEGV); the run is repeated once" in notes
    assert summary.exit_code == 1


def test_output_of_a_job_goes_to_its_log(tmp_path, capfd):
    talkers = [toy_job(tmp_path, "talk", seed, act="talk") for seed in range(2)]
    _, events = run([[*talkers, toy_job(tmp_path, "quiet", 0)]], workers=1)
    for job in talkers:
        assert (job.folder / "log.txt").read_text() == "from Python\nfrom a child\n"
        assert "log.txt" not in (job.folder / "manifest.json").read_text()
    assert not (tmp_path / "runs" / "quiet-s0-abc" / "log.txt").exists()
    assert capfd.readouterr() == ("", "")
    assert of(Note, events) == [Note("said once")]


@both
def test_a_damaged_run_is_noted_and_repeated(tmp_path, workers):
    groups = toy_groups(tmp_path, rungs=1, seconds=0.01)
    run(groups, workers)
    (groups[0][0].folder / "model.bin").write_bytes(b"rot")
    _, events = run(groups, workers)
    (note,) = of(Note, events)
    assert note.sentence.startswith("r0-s0-abc is damaged (model.bin does not match its checksum)")
    assert [event.reused for event in of(Finished, events)] == [True, False]


def test_a_run_of_another_hash_is_not_reused(tmp_path):
    run([[toy_job(tmp_path, "a", 0)]], workers=0)
    job = toy_job(tmp_path, "a", 0)
    other = Job(job.name, job.rung, job.seed, job.config, job.folder, "def")
    run([[other]], workers=0)
    assert started(tmp_path) == ["a-s0", "a-s0"]
    assert RunFolder(job.folder, "def").is_finished()


def test_a_job_function_that_cannot_be_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(work_of_nobody, "__module__", "a_module_of_nobody")
    sys.modules["a_module_of_nobody"] = sys.modules[__name__]
    try:
        with pytest.raises(RuntimeError, match="No module named 'a_module_of_nobody'"):
            run([[toy_job(tmp_path, "a", 0)]], 1, work_of_nobody)
    finally:
        del sys.modules["a_module_of_nobody"]


def test_two_jobs_of_one_name_or_folder_are_a_mistake(tmp_path):
    job = toy_job(tmp_path, "a", 0)
    with pytest.raises(ValueError, match="two jobs have the name a-s0"):
        run([[job], [job]], 0)
    with pytest.raises(ValueError, match="two jobs have the folder"):
        run([[job, Job("b", "b", 0, {}, job.folder, "abc")]], 0)


def test_a_script_needs_no_main_guard(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {os.path.dirname(__file__)!r})
            from runs_toys import toy_groups, toy_work
            from mytnano.runs.runner import run_jobs
            summary = run_jobs(toy_groups({str(tmp_path)!r}, 2, 2, 0.01), toy_work, 2, 1, print)
            print(len(summary.results))
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and done.stdout.endswith("\n4\n"), done.stderr
    assert Counter(started(tmp_path)) == Counter(["r0-s0", "r0-s1", "r1-s0", "r1-s1"])


def test_this_layer_imports_no_torch():
    code = (
        "import sys, mytnano.runs.runner, mytnano.runs.index, mytnano.runs.progress, "
        "mytnano.runs.lock; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def names(queue, own=None, count=99):
    taken = []
    while len(taken) < count and (item := queue.take(own)) is not None:
        own = item[0]
        taken.append(item[1].name)
    return taken


def test_queue_keeps_seeds_together_and_begins_with_the_longest(tmp_path):
    groups = [[toy_job(tmp_path, f"g{s}", seed, s) for seed in range(2)] for s in (1, 3, 2)]
    queue = JobQueue(groups)
    assert len(queue) == 6
    assert names(queue) == ["g3-s0", "g3-s1", "g2-s0", "g2-s1", "g1-s0", "g1-s1"]
    assert queue.take() is None


def test_queue_gives_an_idle_worker_the_tail_of_the_longest_group(tmp_path):
    long = [toy_job(tmp_path, "long", seed, 5) for seed in range(4)]
    short = [toy_job(tmp_path, "short", seed, 1) for seed in range(3)]
    queue = JobQueue([short, long])
    first, second = queue.take(), queue.take()
    assert (first[1].name, second[1].name) == ("long-s0", "short-s0")
    assert names(queue, second[0], count=3) == ["short-s1", "short-s2", "long-s3"]
    assert queue.take(first[0])[1].name == "long-s1"


def test_queue_repeats_a_job_next(tmp_path):
    queue = JobQueue([[toy_job(tmp_path, "a", seed) for seed in range(2)]])
    group, job = queue.take()
    queue.put_back(group, job)
    assert names(queue, group) == ["a-s0", "a-s1"]


def test_twenty_groups_of_two_seeds_leave_no_worker_idle(tmp_path):
    """A dry run of the queue: the two workers end within one job of each other."""
    groups = [[toy_job(tmp_path, f"g{n}", s, 10 + n % 7) for s in range(2)] for n in range(20)]
    queue, clock, own, switches = JobQueue(groups), [0.0, 0.0], [None, None], 0
    while len(queue):
        idle = clock.index(min(clock))
        group, job = queue.take(own[idle])
        switches += group != own[idle]
        clock[idle] += job.expected_seconds
        own[idle] = group
    assert abs(clock[0] - clock[1]) <= 16
    assert switches <= 21, "a shape is compiled once, but for the last"


def test_failed_run_counts_even_where_its_traceback_cannot_be_written(tmp_path):
    def work(job, report):
        job.folder.rmdir()
        job.folder.touch()
        raise ZeroDivisionError

    with pytest.raises(UserError, match=r"cannot write .*error\.txt"):
        run([[toy_job(tmp_path, "a", 0)]], 0, work)


def test_a_job_without_a_result_fails(tmp_path):
    def work(job, report):
        atomic_write_json(job.folder / "config.json", {})

    summary, _ = run([[toy_job(tmp_path, "a", 0)]], 0, work)
    assert isinstance(summary.failed[0], Failed)
    assert "result.json" in summary.failed[0].sentence


def test_a_run_killed_between_its_files_and_its_manifest_keeps_its_checkpoint(tmp_path):
    job = toy_job(tmp_path, "a", 0)

    def work(job, report):
        (job.folder / "checkpoint.bin").write_bytes(b"after the last step")
        toy_work(job, report)

    finish, states = RunFolder.finish, []

    def killed(folder):
        states.append((folder.path / "checkpoint.bin").exists())
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            carry_out(job, work, lambda event: None)
    assert states == [True] and (job.folder / "checkpoint.bin").exists()
    assert RunFolder.finish is finish
    run_jobs([[job]], work, 0, 1, lambda event: None)
    assert RunFolder(job.folder, job.hash).is_finished()
    assert not (job.folder / "checkpoint.bin").exists()
    (job.folder / "checkpoint.bin").write_bytes(b"left by a kill after the manifest")
    run_jobs([[job]], work, 0, 1, lambda event: None)
    assert not (job.folder / "checkpoint.bin").exists()
