"""Corpora: three splits that are fair, fingerprinted, and described."""

import itertools
import json
import random
import subprocess
import sys

import pytest

from mytnano.config import DataConfig
from mytnano.errors import UserError
from mytnano.text import readers
from mytnano.text.corpus import load_corpus


def parts(corpus):
    return [corpus.train, corpus.validation, corpus.test]


def joined(corpus):
    return b"".join(b"".join(part) for part in parts(corpus))


def figures(corpus) -> list[float]:
    """Percentages of the near-duplicates note: test, validation."""
    note = next(note for note in corpus.notes if note.startswith("Near-duplicates"))
    return [float(word[:-1]) for word in note.split() if word.endswith("%")]


def prose(size: int, seed: int = 0) -> bytes:
    """Lines of random words with a blank line now and then."""
    rng = random.Random(seed)
    text = "".join(
        f"{rng.getrandbits(40):x}" + rng.choice([" ", " ", " ", "\n", "\n\n"])
        for _ in range(size // 11)
    )
    return text.encode()


@pytest.fixture(scope="module")
def sotu():
    return load_corpus(DataConfig())


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes(prose(200_000))
    return path


def load(path, **fields):
    return load_corpus(DataConfig(corpus=str(path), **fields))


def test_sotu_split_is_complete_and_keeps_years_together(sotu):
    source = readers.read_sotu()
    assert sorted(itertools.chain(*parts(sotu))) == sorted(source.documents)
    year = dict(zip(source.documents, source.years, strict=True))
    years = [{year[document] for document in part} for part in parts(sotu)]
    assert not (years[0] & years[1] or years[0] & years[2] or years[1] & years[2])
    total = sum(map(len, source.documents))
    for part, own, share in zip(parts(sotu), years, (0.8, 0.1, 0.1), strict=True):
        assert sum(map(len, part)) / total == pytest.approx(share, abs=0.02)
        assert {y // 50 for y in own} == {35, 36, 37, 38, 39, 40}  # every half-century
    assert sotu.name == "sotu"


def test_sotu_fingerprint_is_golden(sotu):
    # A change here changes every published number: bump SEMANTICS with it.
    assert sotu.fingerprint == "df722450878a28812ed8b902cfdd3c61001c5d007f4722efe5c13f7476d1bdf2"


def test_sotu_notes_give_the_figure(sotu):
    assert len(figures(sotu)) == 2 and all(0.05 < figure < 3 for figure in figures(sotu))


def test_loading_is_light():
    code = (
        "import sys; from mytnano.text.corpus import load_corpus;"
        "from mytnano.text.tokenizers import build_tokenizer; import mytnano.text.stream;"
        "print(sorted({'torch', 'tokenizers', 'tiktoken', 'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_file_is_cut_and_nothing_is_lost(book):
    corpus = load(book)
    text = book.read_bytes()
    blocks = list(itertools.chain(*parts(corpus)))
    assert sorted(blocks) == sorted(readers.cut_blocks(text, len(text) // 50))
    for part, share in zip(parts(corpus), (0.8, 0.1, 0.1), strict=True):
        assert sum(map(len, part)) / len(text) == pytest.approx(share, abs=0.02)
    assert any("no document borders" in note for note in corpus.notes)


def test_tail_is_exactly_the_end(book):
    text = book.read_bytes()
    corpus = load(book, split="tail:0.1")
    assert joined(corpus) == text
    fraction = round(0.1 * len(text))
    assert b"".join(corpus.test) == text[-fraction:]
    assert b"".join(corpus.validation) == text[-2 * fraction : -fraction]
    assert max(map(len, corpus.train)) < 16_384
    assert any("last 10 %" in note for note in corpus.notes)


def test_test_file_is_all_of_the_test_text(book, tmp_path):
    path = tmp_path / "held_out.txt"
    path.write_bytes(prose(30_000, seed=1))
    for split in ("documents", "tail:0.2"):
        corpus = load(book, test_file=str(path), split=split)
        assert b"".join(corpus.test) == path.read_bytes()
        kept = corpus.train + corpus.validation
        assert sum(map(len, kept)) == len(book.read_bytes())
        assert corpus.validation
    copied = load(book, test_file=str(book))
    assert figures(copied)[0] == pytest.approx(90, abs=3)  # train and validation are in the test
    assert any("are, whole, documents of the training text" in note for note in copied.notes)
    path.write_bytes(prose(600))
    with pytest.raises(UserError, match=r"the test file '.*held_out.txt' has \d+ bytes; at least"):
        load(book, test_file=str(path))
    for absent in (str(tmp_path / "absent"), str(tmp_path)):
        with pytest.raises(UserError, match="test file"):
            load(book, test_file=absent)


def test_folder_of_many_files_keeps_documents(tmp_path):
    documents = [prose(2000, seed) for seed in range(60)]
    for number, document in enumerate(documents):
        (tmp_path / f"{number}.txt").write_bytes(document)
    corpus = load(tmp_path)
    assert sorted(itertools.chain(*parts(corpus))) == sorted(documents)
    before = corpus.fingerprint
    for number, document in enumerate(documents):
        (tmp_path / f"{number}.txt").unlink()
        (tmp_path / f"{99 - number}.md").write_bytes(document)
    assert load(tmp_path).fingerprint == before  # names and order do not matter
    (tmp_path / "99.md").write_bytes(documents[0] + b".")
    assert load(tmp_path).fingerprint != before


@pytest.mark.parametrize("count", [1, 5])
def test_few_files_are_cut(tmp_path, count):
    for number in range(count):
        (tmp_path / f"{number}.txt").write_bytes(prose(60_000, number))
    corpus = load(tmp_path)
    assert all(len(part) >= 3 for part in parts(corpus))
    assert any("fewer than 30 documents" in note for note in corpus.notes)


def test_copies_of_one_record_are_no_split_and_the_real_shares_are_told(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [f"record {n} {'x' * 900}" for n in range(62)] + ["the same " + "y" * 900] * 38
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    corpus = load(path)
    assert corpus.train.count(lines[-1].encode()) == 38
    (told,) = [note for note in corpus.notes if "by content hash" in note]
    for name, part in zip(("train", "validation", "test"), parts(corpus), strict=True):
        share = sum(map(len, part)) / sum(map(len, lines))
        assert f"{name} {100 * share:.1f} %" in told


def test_documents_too_short_for_a_passage_are_not_called_free_of_copies(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"line number {n}"}) + "\n" for n in range(3000)))
    assert any("no passage of 64 bytes to compare" in note for note in load(path).notes)


def test_one_dominant_file_is_cut(tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.txt").write_bytes(prose(500, number))
    (tmp_path / "big.txt").write_bytes(prose(200_000, 99))
    corpus = load(tmp_path)
    sizes = [sum(map(len, part)) for part in parts(corpus)]
    assert sizes[0] / sum(sizes) == pytest.approx(0.8, abs=0.03)


def test_invalid_utf8_is_kept_and_said(book):
    text = book.read_bytes() + b"\n\n\xff\xfe bad"
    book.write_bytes(text)
    corpus = load(book, split="tail:0.1")
    assert joined(corpus) == text
    assert any("1 of" in note and "invalid UTF-8" in note for note in corpus.notes)


@pytest.mark.parametrize("size", [1, 19_999])
def test_too_little_text(tmp_path, size):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * size)
    with pytest.raises(UserError, match="at least 20,000"):
        load(path)


def test_smallest_corpus_works(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(prose(30_000)[:20_000])
    assert all(parts(load(path)))


def test_a_split_that_is_too_small(book, tmp_path):
    with pytest.raises(UserError, match=r"validation split .* at least 1,000"):
        load(book, split="tail:0.001")
    (tmp_path / "same.txt").write_bytes(b"the same line\n" * 20_000)
    with pytest.raises(UserError, match="at least 1,000"):
        load(tmp_path / "same.txt")


def test_a_changed_text_is_refused(book):
    fingerprint = load(book).fingerprint
    assert load(book, fingerprint=fingerprint).fingerprint == fingerprint
    book.write_bytes(book.read_bytes() + b"more")
    with pytest.raises(UserError, match="has changed"):
        load(book, fingerprint=fingerprint)
