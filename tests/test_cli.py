"""The command line: one sentence and a code for every mistake, and what the options mean."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from ladder_toys import small_attention, write_text

from mytnano import __version__, cli, files
from mytnano.cli.shared import default_folder
from mytnano.ladder import run
from mytnano.report import html


def mytnano(monkeypatch, *words):
    """Run the command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["mytnano", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


@pytest.fixture
def requests(monkeypatch):
    """The requests that reach the ladder, which does nothing."""
    seen = []
    monkeypatch.setattr(run, "climb", lambda request, console: seen.append(request) or 0)
    monkeypatch.setattr(html, "write_report", lambda out: Path(out) / "report.html")
    return seen


@pytest.mark.parametrize(
    "words",
    [
        ("--rungs", "bigram,attention"),
        ("--rungs", "bigram", "--rungs", "attention"),
        ("--rungs", "bigram", "attention"),
        ("bigram", "attention", "--seeds", "1"),
        ("--rungs", " bigram , attention"),
    ],
)
def test_ways_to_name_rungs(monkeypatch, requests, words):
    assert mytnano(monkeypatch, "ladder", *words) == 0
    assert requests[0].rungs == ("bigram", "attention")


def test_options_become_a_request(monkeypatch, requests, capsys):
    options = "--budget smoke --corpus a/b.txt --seeds 3 --device cpu --workers 0 --tune"
    options += " --precision fp32"
    assert mytnano(monkeypatch, "ladder", *options.split(), "--test-file", "t.txt") == 0
    (request,) = requests
    assert (request.budget, request.seeds, request.device) == ("smoke", 3, "cpu")
    assert (request.workers, request.tune, request.rungs) == (0, True, ())
    assert request.precision == "fp32"
    assert (request.data.corpus, request.data.test_file) == ("a/b.txt", "t.txt")
    assert request.out == Path("out/ladder-smoke-b.txt")
    assert capsys.readouterr().out == "report: out/ladder-smoke-b.txt/report.html\n"


@pytest.mark.parametrize(
    ("corpus", "folder"),
    [
        ("sotu", "ladder-quick"),
        ("../novels/", "ladder-quick-novels"),
        ("hf:org/some name:x", "ladder-quick-some-name-x"),
        ("..", f"ladder-quick-{Path('..').resolve().name}"),
        (".", f"ladder-quick-{Path('.').resolve().name}"),
    ],
)
def test_texts_have_folders_of_their_own(corpus, folder):
    assert default_folder("quick", corpus) == Path("out") / folder


MISTAKES = [
    ("ladder --seeds 0", "'--seeds'"),
    ("ladder --seeds some", "'--seeds'"),
    ("ladder --workers -1", "'--workers'"),
    ("ladder --no-such-option", "--no-such-option"),
    ("climb", "climb"),
    ("trian", "'trian', did you mean 'train'?; see mytnano --help"),
    ("report", "Missing argument"),
    ("ladder --rungs trigram", "'trigram' is not a rung or a group; rungs: bigram, "),
    ("ladder --rungs bigram,", "'' is not a rung or a group"),
    ("ladder --budget huge", "'huge' is not a budget; choose from smoke, quick, standard"),
    ("ladder --device abacus", "'abacus' is not a device; choose from auto, "),
    ("ladder --precision fp8", "'fp8' is not a precision; choose from auto, fp32, bf16"),
    ("ladder --corpus no/such/text", "'no/such/text' is neither a known corpus"),
    ("ladder --split half", "half"),
    ("ladder --test-file no/such", "the test file 'no/such' is not an existing file"),
    ("ladder --corpus empty.txt", "'empty.txt' holds no text"),
    ("ladder --corpus short.txt", "'short.txt' holds 1,200 bytes of text"),
    ("ladder --corpus farm.txt --out farm.txt/out", "cannot write in farm.txt/out"),
    ("report nowhere", "nowhere has no results.json"),
    ("explain trigram", "'trigram'"),
    ("ladder --tune --plan", "--plan cannot foresee --tune"),
    ("ablate swiglu device=cpu", "unknown field 'device'"),
    ("ablate swiglu source=x", "unknown field 'source'"),
    ("ablate swiglu --plan --time", "--plan trains nothing that --time could time"),
    ("ablate swiglu seeds=3 --show out", "no use of QUESTION and NAME=VALUE: leave that out"),
    ("ablate --out x", "the list of questions makes no use of --out"),
    ("shard farm.txt --verify --workers 1", "--verify makes no use of CORPUS and --workers"),
    ("shard farm.txt --limit-mb 1", "a corpus that is read whole makes no use of --limit-mb"),
    ("shard sotu --held-out 0.1", "a corpus that is read whole makes no use of --held-out"),
    ("forecast runs.csv --budget full", "a table of runs makes no use of --budget"),
    ("bench --device cuda", "a race of steps makes no use of --device"),
    ("bench --tokenizers --threads 1", "--tokenizers makes no use of --threads"),
    ("ladder --corpus . --out here", "the output folder 'here' lies in the corpus '.'"),
    ("shard . --out here", "the output folder 'here' lies in the corpus '.'"),
    ("ablate swiglu corpus=. --out here", "the output folder 'here' lies in the corpus '.'"),
    ("train mytnano --corpus .", "lies in the corpus '.' and would become a part of its text"),
    ("forecast --corpus .", "lies in the corpus '.' and would become a part of its text"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES)
def test_a_mistake_is_one_sentence_and_code_2(monkeypatch, tmp_path, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "farm.txt", 25_000)
    (tmp_path / "short.txt").write_text("Too little. " * 100)
    (tmp_path / "empty.txt").touch()
    assert mytnano(monkeypatch, *words.split()) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("mytnano: ")
    assert error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "out").exists(), "nothing was left behind"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads anything")
def test_an_unreadable_file(monkeypatch, tmp_path, capsys):
    secret = write_text(tmp_path / "secret.txt")
    secret.chmod(0)
    assert mytnano(monkeypatch, "ladder", "--corpus", secret, "--out", tmp_path / "out") == 2
    assert "cannot be read (Permission denied)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place", ["ladder.json", "cache/bpe", "runs/bigram", "results.csv", "baselines.json"]
)
def test_a_full_disk_is_one_sentence_and_what_was_finished_stays(
    monkeypatch, tmp_path, capsys, place
):
    small_attention(monkeypatch)
    text, out = write_text(tmp_path / "farm.txt"), tmp_path / "out"
    words = f"ladder --budget smoke --workers 0 --rungs bigram,bpe --corpus {text} --out {out}"
    replace = os.replace

    def full(source, target):
        if place in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", full)
        assert mytnano(monkeypatch, *words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("mytnano: no space left on the disk for ") and error.count("\n") == 1
    assert not list(out.rglob(".tmp-*")), "no half file"
    sealed = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/manifest.json")}
    expected = {"runs/bigram": 1, "results.csv": 1, "baselines.json": 2}
    assert len(sealed) == expected.get(place, 0)
    assert mytnano(monkeypatch, *words.split()) == 0
    assert {p: p.stat().st_mtime_ns for p in sealed} == sealed, "a finished run was repeated"
    assert len(list(out.glob("runs/*/manifest.json"))) == 2


def test_ctrl_c_says_that_the_same_command_continues(monkeypatch, capsys):
    def climb(request, console):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "climb", climb)
    assert mytnano(monkeypatch, "ladder") == 130
    assert capsys.readouterr().err == "\nstopped; the same command continues\n"


def test_ctrl_c_in_a_verb_that_does_not_go_on_says_only_that_it_stopped(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("mytnano.report.explain.explain", interrupted)
    assert mytnano(monkeypatch, "explain", "swiglu") == 130
    assert capsys.readouterr().err == "\nstopped\n"


def test_a_terminal_that_lacks_a_character_shows_another(monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    assert mytnano(monkeypatch, "explain", "swiglu") == 0
    shown.flush()
    assert b"?" in shown.buffer.getvalue()


@pytest.mark.parametrize("words", [("--version",), ("-h",), ("train", "-h")])
def test_short_questions(monkeypatch, capsys, words):
    assert mytnano(monkeypatch, *words) == 0
    said = capsys.readouterr().out
    assert said == f"mytnano {__version__}\n" if words == ("--version",) else "Usage:" in said


def test_a_paragraph_of_help_is_one_line():
    assert cli.paragraphs("One\n    two.\n\n    Three\n    four.\n") == "One two.\n\nThree four."


def test_positional_words_have_names_in_capitals():
    for verb, command in typer.main.get_command(cli.app).commands.items():
        for each in command.params:
            if each.param_type_name == "argument" and verb != "claims":
                assert each.metavar == each.metavar.upper(), (verb, each.name)


def test_a_failed_run_is_code_1(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # nothing was finished, so there is nothing to report on
    monkeypatch.setattr(run, "climb", lambda request, console: 1)
    assert mytnano(monkeypatch, "ladder") == 1


@pytest.mark.parametrize("wanted", [10**13, 10**17])
def test_too_little_memory_is_a_sentence(monkeypatch, requests, capsys, wanted):
    monkeypatch.setattr(run, "climb", lambda request, console: torch.empty(wanted))
    assert mytnano(monkeypatch, "ladder") == 2
    assert "this takes more memory than there is: give smaller windows" in capsys.readouterr().err


def test_a_mistake_of_ours_is_not_hidden(monkeypatch, requests):
    def climb(request, console):
        raise ZeroDivisionError

    monkeypatch.setattr(run, "climb", climb)
    monkeypatch.setattr(sys, "argv", ["mytnano", "ladder"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_without_a_verb_there_is_help(monkeypatch, capsys):
    assert mytnano(monkeypatch) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in ("ladder", "explain", "report", "bench"))


def help_of(monkeypatch, capsys, verb):
    """What --help of a verb prints, in one line of words."""
    monkeypatch.setenv("COLUMNS", "200")
    assert mytnano(monkeypatch, verb, "--help") == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_names_what_the_documents_do(monkeypatch, capsys):
    assert "claims [OPTIONS] [run] [CLAIM]... The 56" in help_of(monkeypatch, capsys, "claims")
    assert "Optional columns: lr, flops, status, stopped" in help_of(monkeypatch, capsys, "verdict")
    assert "hf:NAME, or shards:FOLDER" in help_of(monkeypatch, capsys, "train")
    assert "shards:" not in help_of(monkeypatch, capsys, "ladder"), "which needs several tokenizers"


@pytest.mark.parametrize(
    ("words", "given"),
    [((), ()), (("C1",), ("C1",)), (("run", "C1", "C2"), ("run", "C1", "C2"))],
)
def test_words_of_claims(monkeypatch, words, given):
    seen = []
    monkeypatch.setattr(
        "mytnano.claims.command.give_claims", lambda words, *rest: seen.append(words)
    )
    assert mytnano(monkeypatch, "claims", *words) == 0
    assert seen == [given]


def test_a_reader_that_leaves_gets_no_traceback():
    command = [sys.executable, "-m", "mytnano", "explain", "swiglu"]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    reader.stdout.close()
    _, error = reader.communicate(timeout=60)
    assert b"Traceback" not in error


def test_help_comes_without_the_heavy_libraries():
    code = (
        "import sys; sys.argv = ['mytnano', 'ladder', '--help']; from mytnano import cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'matplotlib', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
