"""Closed-form baselines against brute force, against exact entropies, and across vocabularies."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import random_bytes_source

from mytnano.errors import UserError
from mytnano.measure.baselines import NAMES, closed_form_baselines, token_baselines
from mytnano.measure.compressors import training_text
from mytnano.measure.kneser_ney import fit_kneser_ney
from mytnano.measure.markov import MarkovSource, markov_source
from mytnano.measure.ngrams import Unigram, fit_bigram, fit_unigram
from mytnano.measure.symbols import (
    BORDER,
    SYMBOLS,
    bits_per_byte,
    document_symbols,
    stream_symbols,
    symbol_pairs,
)

short_documents = st.lists(
    st.binary(max_size=40).map(lambda b: bytes(x % 4 for x in b)), max_size=4
)
symbol_fragments = st.lists(
    st.lists(st.sampled_from([0, 1, 2, 255, BORDER]), max_size=30).map(
        lambda symbols: np.array(symbols, dtype=np.uint16)
    ),
    max_size=4,
)


def scores(source: MarkovSource, train: int, names=NAMES, length: int = 4096) -> dict[str, float]:
    """BPB of each baseline on 64 documents of the source, fitted on ``train`` others."""
    documents = source.documents(train + 80, length, seed=1)
    fitted = [document_symbols(document) for document in documents[80:]]
    found = closed_form_baselines(fitted, documents[64:80], documents[:64], "generated", names)
    return {baseline.name: baseline.bpb for baseline in found}


# Known entropies ---------------------------------------------------------------------------------


def test_entropy_rate_of_a_two_state_chain_is_the_textbook_formula():
    def h(p):
        return -p * math.log2(p) - (1 - p) * math.log2(1 - p)

    source = MarkovSource(b"ab", 1, np.array([[0.9, 0.1], [0.4, 0.6]]))
    assert source.stationary == pytest.approx([0.8, 0.2])
    assert source.entropy_rate == pytest.approx(0.8 * h(0.1) + 0.2 * h(0.4))
    assert source.conditional_entropy(0) == pytest.approx(h(0.2))


def test_conditional_entropies_of_an_order_3_chain_match_counts_of_its_text():
    source = markov_source(3, seed=5, alphabet=b"abcd")
    text = source.documents(256, 2000, seed=6)
    for seen in range(4):
        grams = Counter(d[i : i + seen + 1] for d in text for i in range(3, len(d) - seen))
        contexts = Counter()
        for gram, count in grams.items():
            contexts[gram[:-1]] += count
        total = sum(grams.values())
        bits = -sum(n * math.log2(n / contexts[g[:-1]]) for g, n in grams.items()) / total
        assert source.conditional_entropy(seen) == pytest.approx(bits, abs=0.01)
    assert source.bits_per_byte(text) == pytest.approx(source.entropy_rate, abs=0.01)


def test_a_chain_that_never_settles_is_refused():
    source = MarkovSource(b"abc", 1, np.array([[0.0, 1, 0], [1, 0, 0], [1, 0, 0]]))
    with pytest.raises(UserError, match="does not settle"):
        _ = source.stationary


@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_more_context_never_has_more_entropy(seed, order):
    source = markov_source(order, seed, alphabet=b"abcde")
    entropies = [source.conditional_entropy(seen) for seen in range(order + 2)]
    assert source.rows.sum(1) == pytest.approx(np.ones(5**order))
    assert all(low <= high + 1e-9 for high, low in itertools.pairwise(entropies))
    assert 0 < entropies[-1] <= entropies[0] <= math.log2(5) + 1e-9


def test_sources_are_reproducible_and_say_what_is_wrong():
    source = markov_source(2, seed=1)
    assert source.documents(3, 50, seed=2) == source.documents(3, 50, seed=2)
    assert source.documents(3, 50, seed=2) != source.documents(3, 50, seed=3)
    assert [len(d) for d in source.documents(3, 1, seed=2)] == [1, 1, 1]
    with pytest.raises(UserError, match="two distinct bytes"):
        markov_source(1, seed=0, alphabet=b"aa")
    with pytest.raises(UserError, match="another order"):
        markov_source(9, seed=0)


def test_bigram_reaches_the_order_1_rate():
    source = markov_source(1, seed=3)
    found = scores(source, train=128, names=NAMES)
    rate = source.entropy_rate
    assert rate - 0.01 < found["bigram"] < rate + 0.02
    assert found["unigram"] == pytest.approx(source.conditional_entropy(0), abs=0.02)
    assert all(bpb > rate - 0.01 for bpb in found.values())


def test_kneser_ney_nears_the_order_3_rate_where_the_bigram_cannot():
    source = markov_source(3, seed=4, alphabet=b"abcdefgh")
    found = scores(source, train=256)
    assert found["bigram"] == pytest.approx(source.conditional_entropy(1), abs=0.02)
    assert found["kneser-ney-5"] < found["bigram"] - 0.2
    assert found["kneser-ney-5"] < source.entropy_rate + 0.05
    assert all(bpb > source.entropy_rate - 0.01 for bpb in found.values())


def test_nothing_compresses_random_bytes():
    found = scores(random_bytes_source(), train=64)
    assert min(found.values()) > 7.98
    assert [found[name] for name in ("uniform", "unigram", "bigram")] == pytest.approx(
        [8.0] * 3, abs=0.02
    )
    assert found["xz"] == pytest.approx(8.0, abs=0.02)
    assert found["zstd"] == pytest.approx(8.0, abs=0.02)
    assert found["kneser-ney-5"] < 8.6


def test_uniform_pays_for_every_document_end():
    documents = [b"abc", b"", b"de"]
    found = closed_form_baselines([], documents, documents, "nothing", ["uniform"])
    assert found[0].bpb == pytest.approx(math.log2(257) * (5 + 3) / 5)
    assert found[0].nats_per_token == pytest.approx(math.log(257))


# Kneser-Ney --------------------------------------------------------------------------------------


@given(symbol_fragments, st.lists(st.integers(0, BORDER), max_size=7), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_kneser_ney_sums_to_one_after_any_context(fragments, context, order):
    model = fit_kneser_ney(fragments, order)
    seen = [int(symbol) for fragment in fragments for symbol in fragment][:5]
    for each in (context, seen, [BORDER, *seen]):
        p = model.distribution(each)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert p.min() > 0


def brute_force_kneser_ney(documents, order, history, symbol, discounts):
    """p(symbol | history) by dictionaries and recursion, straight from the definition."""
    occurrences = Counter()
    left = defaultdict(set)
    for document in documents:
        text = (BORDER, *document, BORDER)
        for end, size in itertools.product(range(1, len(text)), range(1, order + 1)):
            if end + 1 >= size:
                gram = text[end + 1 - size : end + 1]
                occurrences[gram] += 1
                if end >= size:
                    left[gram].add(text[end - size])

    def count(gram):
        whole = len(gram) == order or (len(gram) > 1 and gram[0] == BORDER)
        return occurrences[gram] if whole else len(left[gram])

    def probability(context):
        lower = probability(context[1:]) if context else 1 / SYMBOLS
        counts = [count((*context, each)) for each in range(SYMBOLS)]
        if not sum(counts):
            return lower
        taken = [discounts[len(context)][min(n, 3) - 1] if n else 0 for n in counts]
        return (counts[symbol] - taken[symbol] + sum(taken) * lower) / sum(counts)

    return probability(tuple(history[len(history) - min(order - 1, len(history)) :]))


@given(short_documents.filter(any), st.integers(1, 5), st.binary(max_size=8))
@settings(max_examples=25, deadline=None)
def test_kneser_ney_is_its_definition(documents, order, test):
    test = bytes(x % 5 for x in test)
    model = fit_kneser_ney([document_symbols(d) for d in documents], order)
    text = [BORDER, *test, BORDER]
    expected = [
        brute_force_kneser_ney(documents, order, text[:i], text[i], model.discounts)
        for i in range(1, len(text))
    ]
    found = np.exp(model.log_probabilities([document_symbols(test)]))
    assert found == pytest.approx(expected, rel=1e-9)


def test_discounts_are_chen_and_goodmans():
    # Unigram model of one fragment: occurrences 1 x 4, 2 x 2, 3 x 1, 4 x 1 -> n1..n4 = 4, 2, 1, 1.
    counts = [1, 1, 1, 1, 2, 2, 3, 4]
    text = np.repeat(np.arange(8), counts)
    model = fit_kneser_ney([np.concatenate([[BORDER], text])], order=1)
    y = 4 / (4 + 2 * 2)
    assert model.discounts == [pytest.approx((1 - 2 * y * 2 / 4, 2 - 3 * y * 1 / 2, 3 - 4 * y))]


def test_fragments_do_not_touch_and_streams_reset_at_borders():
    documents = [b"abcabd", b"", b"bcabcd" * 3]
    probe = [document_symbols(b"abcdbcab")]
    whole = fit_kneser_ney([document_symbols(d) for d in documents])
    stream = fit_kneser_ney([stream_symbols(documents)])
    assert stream.log_probabilities(probe) == pytest.approx(whole.log_probabilities(probe))
    assert training_text([stream_symbols(documents)]) == training_text(
        [document_symbols(d) for d in documents]
    )
    halves = [np.array([1, 2, 1, 2]), np.array([3, 4, 3, 4])]
    contexts, targets = symbol_pairs(halves)
    assert (2, 3) not in set(zip(contexts, targets, strict=True)) and len(targets) == 6
    apart = fit_kneser_ney(halves).distribution([2])
    assert apart[3] < apart[1] / 2


def test_kneser_ney_refuses_what_does_not_fit():
    with pytest.raises(UserError, match="symbols 0"):
        fit_kneser_ney([np.array([1, 257])])
    with pytest.raises(UserError, match="choose 1 to 7"):
        fit_kneser_ney([], order=8)


# Token n-grams -----------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=60),
    st.lists(st.integers(0, 4), min_size=2, max_size=60),
)
@settings(max_examples=40, deadline=None)
def test_ngrams_sum_to_one_and_are_add_k(train, validation):
    train, validation = np.array(train), np.array(validation)
    model = fit_bigram(train[:-1], train[1:], 5, (validation[:-1], validation[1:]))
    a, b = (axis.ravel() for axis in np.meshgrid(range(5), range(5), indexing="ij"))
    p = np.exp(model.log_probabilities(a, b)).reshape(5, 5)
    assert p.sum(1) == pytest.approx(np.ones(5))
    assert model.unigram.probabilities.sum() == pytest.approx(1)
    pairs = Counter(itertools.pairwise(train.tolist()))
    for row, column in itertools.product(range(5), range(5)):
        prior = model.k * 5 * model.unigram.probabilities[column]
        total = sum(pairs[row, each] for each in range(5)) + model.k * 5
        assert p[row, column] == pytest.approx((pairs[row, column] + prior) / total)


def test_k_is_the_best_on_validation():
    rng = np.random.default_rng(0)
    ids = rng.zipf(1.5, 4000) % 50
    train, validation = ids[:500], ids[500:]
    model = fit_unigram(train, 50, validation)
    counts = np.bincount(train, minlength=50)
    losses = [
        Unigram((counts + k) / (counts + k).sum(), k).nats(validation)
        for k in np.logspace(-3, 3, 61)
    ]
    assert model.nats(validation) <= min(losses) + 1e-6


def test_large_vocabulary_stays_sparse():
    rng = np.random.default_rng(0)
    vocab_size = 100_000
    ids = rng.integers(0, vocab_size, 20_000)
    model = fit_bigram(ids[:-1], ids[1:], vocab_size, (ids[:-1], ids[1:]))
    assert len(model.keys) < 20_000
    # Scored on its own text the k of least loss is nearly none.
    assert model.nats(ids[:-1], ids[1:]) / len(ids) < 0.5


def test_bad_ids_are_refused():
    ids = np.array([0, 1, 5])
    with pytest.raises(UserError, match="vocabulary has 5 ids"):
        fit_unigram(ids, 5, ids)
    with pytest.raises(UserError, match="one context for each target"):
        fit_bigram(ids[:2], ids, 6, (ids, ids))
    with pytest.raises(UserError, match="no validation tokens"):
        fit_unigram(ids, 6, ids[:0])


def test_one_distribution_in_two_vocabularies_scores_one_bpb():
    source = markov_source(0, seed=8, alphabet=b"abcdefgh")
    text = np.frombuffer(b"".join(source.documents(16, 4096, seed=9)), dtype=np.uint8) - ord("a")
    text = text.astype(np.int64)
    pairs = text[::2] * 8 + text[1::2]
    single = Unigram(source.rows[0], 0.0)
    double = Unigram(np.outer(source.rows[0], source.rows[0]).ravel(), 0.0)
    by_byte = bits_per_byte(single.nats(text), len(text))
    assert bits_per_byte(double.nats(pairs), len(text)) == pytest.approx(by_byte, rel=1e-12)
    assert by_byte == pytest.approx(source.entropy_rate, abs=0.02)

    # The same from counts: the vocabulary of pairs has 64 tokens and still scores one BPB.
    fitted = []
    for ids, vocab_size in ((text, 8), (pairs, 64)):
        half = len(ids) // 2
        train, held_out = ids[:half], ids[half:]
        made = ((part[:-1], part[1:]) for part in (train, held_out, held_out))
        raw_bytes = (half - 1) * len(text) // len(ids)
        fitted.append(token_baselines(*made, vocab_size, raw_bytes, "ids")[1])
    assert fitted[0].bpb == pytest.approx(fitted[1].bpb, abs=0.005)
    assert fitted[0].nats_per_token == pytest.approx(fitted[1].nats_per_token / 2, abs=0.005)


# Compressors and the whole list -------------------------------------------------------------------


def test_compressors_remember_the_training_text():
    text = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
    seen, unseen = [text[:40_000]], [text[-40_000:]]
    train = [document_symbols(text[:200_000])]
    for name in ("xz", "zstd"):
        again, fresh = (
            closed_form_baselines(train, [b"x"], test, "text", [name])[0] for test in (seen, unseen)
        )
        assert again.bpb < 0.1 and again.nats_per_token is None
        assert fresh.bpb == pytest.approx(8, abs=0.02)
    repeated = closed_form_baselines([], [b"x"], [b"ab" * 50_000], "nothing", ["xz", "zstd"])
    assert all(baseline.bpb < 0.05 for baseline in repeated)


def test_baselines_come_in_the_order_asked_and_bad_input_is_one_sentence():
    source = markov_source(1, seed=0)
    documents = source.documents(6, 300, seed=1)
    train = [document_symbols(d) for d in documents[:3]]
    found = closed_form_baselines(train, documents[3:4], documents[4:], "seen")
    assert [baseline.name for baseline in found] == list(NAMES)
    assert all(baseline.detail["label"] == "seen" for baseline in found)
    with pytest.raises(UserError, match="no baseline is called 'gzip'"):
        closed_form_baselines(train, documents, documents, "seen", ["gzip"])
    with pytest.raises(UserError, match="test text is empty"):
        closed_form_baselines(train, documents, [b""], "seen")


def test_scores_depend_on_no_other_test_document():
    source = markov_source(2, seed=0)
    documents = source.documents(8, 500, seed=1)
    model = fit_kneser_ney([document_symbols(d) for d in documents[:4]])
    together = model.nats([document_symbols(d) for d in documents[4:]])
    assert together == pytest.approx(sum(model.nats([document_symbols(d)]) for d in documents[4:]))
