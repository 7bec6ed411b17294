"""Splits: complete, by content, near their shares, and measured for copies."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mytnano.errors import UserError
from mytnano.text import splits
from mytnano.text.splits import Split, split_by_hash, split_by_position

documents_of = st.lists(st.binary(min_size=1, max_size=40), min_size=3, max_size=40)


def parts(split: Split) -> list[list[bytes]]:
    return [split.train, split.validation, split.test]


def some_documents(count: int, seed: int = 0, low: int = 200, high: int = 2000) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.randint(low, high)) for _ in range(count)]


@given(documents_of)
def test_hash_split_keeps_every_document_once_and_copies_together(documents):
    split = split_by_hash(documents)
    assert sorted(itertools.chain(*parts(split))) == sorted(documents)
    where = [set(part) for part in parts(split)]
    assert not (where[0] & where[1] or where[0] & where[2] or where[1] & where[2])
    if len(set(documents)) >= 3:
        assert all(parts(split))


@given(documents_of, st.randoms())
def test_hash_split_does_not_depend_on_order(documents, rng):
    shuffled = list(documents)
    rng.shuffle(shuffled)
    assert split_by_hash(shuffled) == split_by_hash(documents)


def test_hash_split_meets_its_shares_in_bytes():
    documents = some_documents(500)
    total = sum(map(len, documents))
    split = split_by_hash(documents)
    sizes = [sum(map(len, part)) / total for part in parts(split)]
    assert sizes == pytest.approx([0.8, 0.1, 0.1], abs=0.003)
    without_test = split_by_hash(documents, shares=(0.0, 0.1))
    assert without_test.test == []
    assert sum(map(len, without_test.validation)) / total == pytest.approx(0.1, abs=0.003)


def test_copies_that_would_fill_a_split_train():
    documents = some_documents(62, low=1000, high=1001)
    for seed in range(4):  # whatever their hash
        copy = bytes([seed]) * 1000
        split = split_by_hash([*documents, *[copy] * 38])
        assert split.train.count(copy) == 38
        sizes = [len(part) for part in parts(split)]
        assert sizes == [80, 10, 10]


def test_hash_split_respects_groups_and_strata():
    documents = some_documents(400)
    groups = [index // 2 for index in range(400)]
    strata = [index // 100 for index in range(400)]
    split = split_by_hash(documents, groups, strata)
    place = {d: number for number, part in enumerate(parts(split)) for d in part}
    assert all(place[documents[i]] == place[documents[i + 1]] for i in range(0, 400, 2))
    for stratum in range(4):
        own = documents[100 * stratum : 100 * stratum + 100]
        tested = sum(len(d) for d in own if place[d] == 2)
        assert tested / sum(map(len, own)) == pytest.approx(0.1, abs=0.03)


@given(documents_of, st.floats(0.01, 0.4))
def test_position_split_is_the_text_in_order(documents, fraction):
    split = split_by_position(documents, (fraction, fraction))
    text = b"".join(documents)
    train, validation, test = (b"".join(part) for part in parts(split))
    assert train + validation + test == text
    assert all(document for part in parts(split) for document in part)
    wanted = round(fraction * len(text))
    assert wanted <= len(test) <= wanted + 3
    assert wanted - 3 <= len(validation) <= wanted + 3


@given(st.text(min_size=20, max_size=200), st.floats(0.05, 0.4))
def test_position_split_cuts_between_characters(text, fraction):
    split = split_by_position([text.encode()], (fraction, fraction))
    assert "".join(b"".join(part).decode() for part in parts(split)) == text


def test_position_split_of_plain_text_is_exact():
    text = bytes(range(97, 123)) * 100
    split = split_by_position([text[:1000], text[1000:]], (0.1, 0.1))
    assert b"".join(split.test) == text[-260:]
    assert b"".join(split.validation) == text[-520:-260]


@pytest.mark.parametrize("text", ["tail", "tail:", "tail:x", "tail:0", "tail:0.5", "tail:nan", "x"])
def test_a_wrong_split_is_a_user_error(text):
    with pytest.raises(UserError, match=r"tail:0\.1"):
        splits.parse_split(text)


def test_right_splits_parse():
    assert splits.parse_split("documents") is None
    assert splits.parse_split("tail:0.25") == 0.25


def test_shared_passages_measures_planted_copies():
    train = some_documents(40, seed=1, low=5000, high=6000)
    fresh = some_documents(20, seed=2, low=5000, high=5001)
    copied = [train[3][:5000]] * 5 + fresh[:15]  # a quarter of the bytes, from a document's inside
    measured = splits.shared_passages([fresh, copied, train, []], train)
    assert measured[0] == 0.0
    assert measured[1] == pytest.approx(0.25, abs=0.05)
    assert measured[2] == 1.0
    assert measured[3] is None, "nothing to compare is not nothing in common"
    assert splits.shared_documents([b"a", b"b", b"a"], [b"a", b"ab"]) == 2


def test_passages_do_not_cross_documents():
    whole = some_documents(1, seed=3, low=20_000, high=20_001)[0]
    pieces = [whole[i : i + 60] for i in range(0, len(whole), 60)]  # each shorter than a passage
    assert splits.shared_passages([[whole]], pieces) == [0.0]
    assert splits.shared_passages([[whole]], [whole[:10_000], whole[10_000:]])[0] > 0.9


def test_shared_passages_does_not_depend_on_chunks(monkeypatch):
    train = some_documents(30, seed=4)
    test = train[:3] + some_documents(3, seed=5)
    before = splits.shared_passages([test], train)
    assert 0 < before[0] < 1
    monkeypatch.setattr(splits, "CHUNK_BYTES", 3000)
    assert splits.shared_passages([test], train) == before
