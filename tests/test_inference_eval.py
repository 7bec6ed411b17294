"""Text by document and minimal pairs: totals, and what the intervals say."""

import json
import math

import numpy as np
import pytest
import scipy.stats
import torch
from model_toys import words
from rich.console import Console
from run_toys import TEXT, toy_folder

from mytnano import cli
from mytnano.errors import UserError
from mytnano.inference.command import eval_pairs, eval_text
from mytnano.inference.documents import Texts, bootstrap, evaluate, read_texts
from mytnano.inference.load import load_run
from mytnano.inference.pairs import Pair, advantages, read_pairs, share, shares, wilson
from mytnano.measure.evaluate import score
from mytnano.text.stream import encode_documents


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(toy_folder(tmp_path_factory.mktemp("run"), "bpe:300"))


def test_documents_sum_to_the_score(run):
    documents = [*words(12, 300), b"", b"x", TEXT[:500]]
    found = evaluate(run, documents)
    expected = score(run.model, encode_documents(documents, run.tokenizer))
    run.model.eval()
    assert found.score.nats == pytest.approx(expected.nats, rel=1e-6)
    assert found.score.right == expected.right and found.score.tokens == expected.tokens
    assert found.score.bytes == expected.bytes == sum(map(len, documents))
    np.testing.assert_allclose(found.score.document_nats, expected.document_nats, rtol=1e-5)
    assert found.document_tokens.sum() == found.score.tokens
    low, high = found.interval
    assert low < found.score.bits_per_byte < high


def test_tokens_are_scored_in_their_windows(run):
    document = words(1, 400)[0]
    found = evaluate(run, [document])
    ids = torch.tensor([run.tokenizer.eod_id, *run.tokenizer.encode(document).tolist()])
    context = run.config.model.context
    ids = torch.cat((ids, ids[:1]))  # the end, which is also predicted
    for begin in range(0, len(ids) - 1, context):
        window = ids[begin : begin + context + 1]
        with torch.no_grad():
            nats = -run.model.logits(window[None, :-1])[0].log_softmax(-1)
        expected = nats.gather(1, window[1:, None])[:, 0].double().numpy()
        ours = found.nats[begin + 1 : begin + len(window)]
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_the_interval_covers_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr("mytnano.inference.documents.RESAMPLES", 999)
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        sizes = random.integers(500, 3000, 40)
        nats = sizes * math.log(2) * random.normal(2.0, 0.3, 40)
        low, high = bootstrap(nats, sizes)
        hits += low < 2.0 < high
    assert 87 <= hits <= 99
    assert bootstrap(nats[:5], sizes[:5]) is None
    assert bootstrap(np.full(20, 7.0), np.full(20, 5)) is None


@pytest.mark.parametrize("right, n", [(0, 5), (5, 5), (13, 20), (501, 1000)])
def test_wilson_is_scipys(right, n):
    expected = scipy.stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_pairs_are_the_sums_of_log_probabilities(run):
    pairs = [Pair("We the people.", "We people the.", {}), Pair("In 1789", "In 2024", {})]
    for pair, nats in zip(pairs, advantages(run, pairs), strict=True):
        expected = []
        for sentence in (pair.good, pair.bad):
            ids = [run.tokenizer.eod_id, *run.tokenizer.encode(sentence.encode()).tolist()]
            with torch.no_grad():
                odds = run.model.logits(torch.tensor([ids]))[0].log_softmax(-1)
            expected.append(sum(float(odds[t, ids[t + 1]]) for t in range(len(ids) - 1)))
        assert nats == pytest.approx(expected[0] - expected[1], abs=1e-4)


def test_ties_count_half():
    found = share("x", np.array([1.0, 2.0, 0.0, -1e-6, -3.0]))
    assert (found.pairs, found.ties, found.right, found.share) == (5, 2, 3.0, 0.6)
    assert found.low < 0.6 < found.high


def write_pairs(run, folder):
    """Pairs whose good sentence is, for the model, the likelier one; ``bad`` has them swapped."""
    made = [(f"We the people {n}", f"of Peace {n}") for n in range(6)]
    found = advantages(run, [Pair(one, other, {}) for one, other in made])
    ordered = [p if nats > 0 else p[::-1] for p, nats in zip(made, found, strict=True)]
    for name, flip in (("good", False), ("bad", True)):
        rows = [
            {"sentence_good": p[flip], "sentence_bad": p[not flip], "linguistics_term": name}
            for p in ordered
        ]
        text = "".join(json.dumps(row) + "\n\n" for row in rows)
        (folder / f"{name}_file.jsonl").write_text(text)


def test_planted_pairs_by_phenomenon(run, tmp_path):
    write_pairs(run, tmp_path)
    pairs = read_pairs(tmp_path)
    for by, names in (
        ("linguistics_term", ["bad", "good", "all"]),
        ("UID", ["bad_file", "good_file", "all"]),
    ):
        found = shares(pairs, advantages(run, pairs), by)
        assert [row.name for row in found] == names
        assert [row.share for row in found] == [0.0, 1.0, 0.5]
        assert [row.pairs for row in found] == [6, 6, 12]


def command(capsys, *words):
    """Exit code and what was printed, output and error together."""
    with pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["mytnano", *map(str, words)])
        cli.main()
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_eval_of_text_in_the_terminal(run, tmp_path, capsys, monkeypatch):
    for number, document in enumerate(words(11, 200)):
        begins = "[/b] :cat: \x1b[31m ü[bold]" if number == 3 else ""
        (tmp_path / f"{number:02}.txt").write_bytes(begins.encode() + document)
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = command(
        capsys, "eval", run.folder, "--text", tmp_path, "--per-token-json", tmp_path / "x/all.json"
    )
    assert not code and "bits per byte [" in out and "11 documents, " in out
    assert "[/b] :cat: \ufffd[31m ü[bold]" in out and "\x1b[31m" not in out
    assert "It cannot be determined whether this run was trained on some of this text" in out
    found = json.loads((tmp_path / "x/all.json").read_text())
    for document in found["documents"]:
        tokens = document["per_token"]
        assert len(tokens) == document["tokens"]
        assert sum(token[2] for token in tokens) == pytest.approx(document["nats"])
        assert tokens[-1][0] == run.tokenizer.eod_id
    nats = sum(document["nats"] for document in found["documents"])
    assert found["bpb"] == pytest.approx(nats / math.log(2) / found["bytes"])
    assert "1 document, " in command(capsys, "eval", run.folder, "--text", tmp_path / "00.txt")[1]


def test_results_are_on_the_disk_before_anything_is_shown(run, tmp_path, monkeypatch):
    write_pairs(run, tmp_path)
    (tmp_path / "a.txt").write_text("We the people.\n")

    class Broken(Console):
        def print(self, *objects, **how):
            raise BrokenPipeError

    text, pairs = tmp_path / "text.json", tmp_path / "pairs.json"
    read = read_texts(run, tmp_path / "a.txt", None, "test")
    quiet = Texts(read.name, read.documents, [])
    monkeypatch.setattr("mytnano.inference.command.read_texts", lambda *given: quiet)
    with pytest.raises(BrokenPipeError):
        eval_text(run.folder, tmp_path / "a.txt", None, "test", text, False, "cpu", Broken())
    with pytest.raises(BrokenPipeError):
        eval_pairs(run.folder, tmp_path, None, pairs, "cpu", Broken())
    assert json.loads(text.read_text())["documents"] and json.loads(pairs.read_text())["shares"]


def test_a_score_is_shown_though_its_file_cannot_be_written(run, tmp_path, capsys):
    write_pairs(run, tmp_path)
    (tmp_path / "a.txt").write_text("We the people.\n")
    for what in (("--text", tmp_path / "a.txt"), ("--pairs", tmp_path)):
        nowhere = tmp_path / "a.txt" / "scores.json"
        code, out, said = command(capsys, "eval", run.folder, *what, "--json", nowhere)
        assert code == 2 and ("bits per byte" in out or "50.0%" in out)
        assert "written to" not in out and "scores.json" in said


def test_eval_of_pairs_in_the_terminal(run, tmp_path, capsys):
    write_pairs(run, tmp_path)
    code, out, _ = command(
        capsys, "eval", run.folder, "--pairs", tmp_path, "--json", tmp_path / "p.json"
    )
    assert not code and "50.0%" in out and "linguistics_term" in out
    assert [row["share"] for row in json.loads((tmp_path / "p.json").read_text())["shares"]] == [
        0.0,
        1.0,
        0.5,
    ]


def test_names_of_phenomena_are_no_markup(run, tmp_path, capsys):
    row = {"sentence_good": "We the people", "sentence_bad": "of Peace", "UID": "[/x]:cat:"}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    code, out, _ = command(capsys, "eval", run.folder, "--pairs", tmp_path)
    assert not code and "[/x]:cat:" in out


@pytest.mark.parametrize(
    "words, said",
    [
        (("--text", "/none"), "neither a known corpus"),
        (("--split", "dev"), "'dev' is not a split"),
        (("--text", "x", "--corpus", "sotu"), "give one of them"),
        (("--pairs", "/none"), "not an existing file"),
        (("--pairs", "x", "--text", "y"), "--pairs is scored alone"),
        (("--pairs", "x", "--split", "test"), "--pairs is scored alone"),
        (("--text", "x", "--split", "test"), "--text is scored whole"),
        (("--by", "UID"), "give --pairs as well"),
        ((), "'toy' is neither a known corpus"),
    ],
)
def test_mistakes_are_one_sentence(run, capsys, words, said):
    code, _, err = command(capsys, "eval", run.folder, *words)
    assert code == 2 and said in err and err.count("\n") == 1


def test_a_line_that_is_no_pair_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"sentence_good": "x", "sentence_bad": "y"}\n{"x": 1}\n')
    with pytest.raises(UserError, match=r"line 2 of '.*a.jsonl'"):
        read_pairs(tmp_path)


def test_sample_in_the_terminal(run, tmp_path, capsys):
    code, out, err = command(
        capsys, "sample", run.folder, "--prompt", "We the €", "--tokens", 100, "--temperature", 0
    )
    assert not code and out.startswith("We the €") and "windows of 48 tokens" in err
    again = command(
        capsys, "sample", run.folder, "--prompt", "We the €", "--tokens", 100, "--temperature", 0,
        "--no-cache",
    )[1]  # fmt: skip
    assert again == out
    (tmp_path / "prompts").write_text("We the €\nIn 1789\n")
    code, many, _ = command(
        capsys, "sample", run.folder, "--batch", tmp_path / "prompts", "--count", 2, "--tokens",
        100, "--temperature", 0,
    )  # fmt: skip
    texts = many.split("--- ")[1:]
    assert len(texts) == 4 and texts[0].partition("\n")[2] == out == texts[1].partition("\n")[2]
    assert texts[3].partition("\n")[2].startswith("In 1789")
    assert command(capsys, "sample", run.folder, "--batch", "/none")[0] == 2


def test_what_a_terminal_would_obey_is_shown_to_it_as_text(run, capsys, monkeypatch):
    words = ("sample", run.folder, "--prompt", "We \x1b[31m :cat:", "--tokens", 1)
    assert command(capsys, *words)[1].startswith("We \x1b[31m :cat:")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert command(capsys, *words)[1].startswith("We \ufffd[31m :cat:")
    assert "We \ufffd[31m :cat:" in command(capsys, *words, "--count", 2)[1]


def test_sample_ends_before_a_stop_text(run, capsys):
    words = ("sample", run.folder, "--prompt", "We", "--tokens", 60, "--seed", 3)
    whole = command(capsys, *words)[1].removesuffix("\n")
    stop = whole[12:17]
    expected = whole[: whole.index(stop, 2)]
    assert command(capsys, *words, "--stop", stop)[1] == expected + "\n"
    _, several, _ = command(capsys, *words, "--stop", "\0", "--stop", stop, "--count", 2)
    assert several.startswith(f"--- 1 of 2\n{expected}\n--- 2")


def test_a_space_at_the_end_of_a_prompt_is_said(run, tmp_path, capsys):
    assert "ends in a space" in command(capsys, "sample", run.folder, "--prompt", "We the ")[2]
    assert "ends in a space" not in command(capsys, "sample", run.folder, "--prompt", "We the")[2]
    folder = toy_folder(tmp_path / "byte", "byte")
    assert "ends in a space" not in command(capsys, "sample", folder, "--prompt", "We the ")[2]


def test_sample_says_that_a_module_of_ones_own_has_no_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\nclass Mine(nn.Linear):\n    def __init__(self, config):\n"
        "        super().__init__(config.width, config.width)\n"
    )
    folder = toy_folder(tmp_path / "own", "byte", ffn="mine.py:Mine")
    code, _, err = command(capsys, "sample", folder, "--tokens", 3)
    assert not code and "no cache is kept, as mine.py:Mine reads whole windows" in err
