"""Scores: every byte and every document end once, whatever the batch, the window or the tokens."""

import math

import numpy as np
import pytest
import torch
from model_toys import TableTokenizer, rough_model, stream_of, tiny_design, words

from mytnano.measure import evaluate
from mytnano.measure.evaluate import evaluation_spans, score, score_tokens
from mytnano.model.transformer import Transformer
from mytnano.training.outcome import pairs_of

DOCUMENTS = [*words(5, 137), b"", b"x", *words(2, 24, seed=9)]
BYTES = sum(map(len, DOCUMENTS))
TOKENS = [b"la", b"ar", b"bor", b" pe", b"ople", b"ion ", b"trade", b"state", b" year"]


@pytest.fixture(scope="module")
def stream():
    return stream_of(DOCUMENTS)


def model_for(stream, id="mytnano", context=12):
    return rough_model(tiny_design(id, vocab_size=stream.vocab_size, context=context))


@pytest.mark.parametrize("context", [2, 7, 12, 24, 25, 1000])
def test_every_token_is_a_target_once_and_no_window_leaves_its_document(stream, context):
    spans = evaluation_spans(stream, context)
    targets = np.concatenate(
        [f + 1 + np.arange(n) for f, n in zip(spans.first, spans.length, strict=True)]
    )
    assert np.array_equal(np.sort(targets), np.arange(1, len(stream.ids)))
    assert np.all((spans.length >= 1) & (spans.length <= context))
    starts = np.append(stream.document_starts, len(stream.ids) - 1)
    assert np.all(spans.first >= starts[spans.document])
    assert np.all(spans.first + spans.length <= starts[spans.document + 1])
    for document, start in enumerate(stream.document_starts):
        mine = spans.first[spans.document == document]
        assert mine[0] == start and np.all(np.diff(mine) == context)


@pytest.mark.parametrize("id", ["bigram", "average-positions", "mytnano"])
def test_scores_are_those_of_one_window_at_a_time(stream, id):
    model = model_for(stream, id)
    scored = score(model, stream)
    nats, right = np.zeros(len(DOCUMENTS)), 0
    model.eval()
    for document, text in enumerate(DOCUMENTS):
        ids = [stream.vocab_size - 1, *text, stream.vocab_size - 1]
        for first in range(0, len(ids) - 1, model.config.context):
            window = torch.tensor([ids[first : first + model.config.context + 1]])
            with torch.no_grad():
                logits = model.logits(window[:, :-1])[0]
            nats[document] -= logits.log_softmax(-1).gather(1, window[0, 1:, None]).sum().item()
            right += int((logits.argmax(-1) == window[0, 1:]).sum())
    np.testing.assert_allclose(scored.document_nats, nats, rtol=1e-5)
    assert scored.nats == pytest.approx(nats.sum(), rel=1e-6)
    assert scored.right == right


@pytest.mark.parametrize("tokens", [1, 12, 30, 100, 1 << 20])
def test_independent_of_batch_size(stream, monkeypatch, tokens):
    model = model_for(stream)
    expected = score(model, stream)
    monkeypatch.setattr(evaluate, "BATCH_TOKENS", tokens)
    scored = score(model, stream)
    assert (scored.tokens, scored.bytes) == (expected.tokens, expected.bytes)
    assert scored.nats == pytest.approx(expected.nats, rel=1e-6)
    np.testing.assert_allclose(scored.document_nats, expected.document_nats, rtol=1e-5)


def test_exact_bytes_and_tokens(stream):
    scored = score(model_for(stream), stream)
    assert scored.bytes == BYTES == stream.byte_count
    assert scored.tokens == BYTES + len(DOCUMENTS)  # each byte, and each end of document
    assert scored.document_bytes.tolist() == list(map(len, DOCUMENTS))
    assert len(scored.document_nats) == len(DOCUMENTS)
    assert scored.bits_per_byte == pytest.approx(scored.nats / math.log(2) / BYTES)
    assert scored.loss == pytest.approx(scored.nats / scored.tokens)
    assert scored.accuracy == scored.right / scored.tokens


@pytest.mark.parametrize("max_bytes", [1, 30, 137, 138, 500, BYTES, BYTES + 1])
def test_max_bytes_scores_the_beginning(stream, max_bytes):
    model = model_for(stream)
    whole, part = score(model, stream), score(model, stream, max_bytes)
    assert min(max_bytes, BYTES) <= part.bytes <= max_bytes + 1
    document = len(part.document_nats) - 1  # all before the last one are whole
    np.testing.assert_allclose(part.document_nats[:-1], whole.document_nats[:document], rtol=1e-5)
    assert part.document_bytes[:-1].tolist() == list(map(len, DOCUMENTS[:document]))
    if max_bytes >= BYTES:
        assert part.tokens == whole.tokens and part.nats == pytest.approx(whole.nats)


@pytest.mark.parametrize("max_bytes", [1, 2, 30, 59, 60, 61, 62, 63, 137, 500, BYTES - 1])
def test_max_bytes_of_longer_tokens_is_at_most_one_token_late(max_bytes):
    table = TableTokenizer([*(bytes([b]) for b in range(32, 127)), *TOKENS])
    stream = stream_of(DOCUMENTS, table)
    assert len(stream.ids) < 0.7 * BYTES
    model = model_for(stream)
    part = score(model, stream, max_bytes)
    # The first end-of-document is not predicted.
    sizes = table.byte_lengths[stream.ids[1 : part.tokens + 1]]  # (tokens,)
    assert sizes[:-2].sum() < max_bytes <= sizes.sum() == part.bytes
    nats, right = score_tokens(model, stream)
    assert part.nats == pytest.approx(nats[: part.tokens + 1].sum(), rel=1e-6)
    assert part.right == right[: part.tokens + 1].sum()


@pytest.mark.parametrize("max_bytes", [0, 60, 137, 400])
def test_closed_form_pairs_are_the_scored_tokens(stream, max_bytes):
    model = model_for(stream, "bigram")
    scored = score(model, stream, max_bytes)
    (contexts, targets), size = pairs_of(stream, max_bytes)
    with torch.no_grad():
        table = model.logits(torch.arange(stream.vocab_size)[None])[0].log_softmax(-1)
    assert (size, len(targets)) == (scored.bytes, scored.tokens)
    assert -float(table[contexts, targets].double().sum()) == pytest.approx(scored.nats, rel=1e-5)


def test_padding_and_order_of_documents_do_not_matter(stream):
    model = model_for(stream)
    scored = score(model, stream)
    reordered = score(model, stream_of(DOCUMENTS[::-1]))
    np.testing.assert_allclose(reordered.document_nats[::-1], scored.document_nats, rtol=1e-5)


def test_dropout_is_off_and_the_model_is_left_training(stream):
    model = model_for(stream)
    expected = score(model, stream).nats
    noisy = model_for(stream).train()
    for block in noisy.blocks:
        block.dropout = 0.5
    assert score(noisy, stream).nats == expected and noisy.training
    assert score(noisy.eval(), stream).nats == expected and not noisy.training, "as it was"


def unigram_model(log_probabilities):
    """A model of width 1 that gives every token the same distribution."""
    config = tiny_design("bigram", width=1, heads=1, vocab_size=len(log_probabilities), context=16)
    model = Transformer(config)
    with torch.no_grad():
        model.embedding.weight.fill_(1.0)
        model.head.weight.copy_(torch.tensor(log_probabilities, dtype=torch.float32)[:, None])
    return model


def test_one_distribution_in_two_vocabularies_scores_one_bpb():
    letters, end = {b"a": 0.5, b"b": 0.3, b"c": 0.15, b"d": 0.05}, 1e-5
    rng = np.random.default_rng(0)
    drawn = rng.choice(list(letters), p=list(letters.values()), size=(20, 100))
    documents = [b"".join(row) for row in drawn.tolist()]
    single = stream_of(documents, TableTokenizer(list(letters)))
    pairs = TableTokenizer([a + b for a in letters for b in letters])
    double = stream_of(documents, pairs)
    log_p = [math.log(p) for p in letters.values()]
    ours = score(unigram_model([*log_p, math.log(end)]), single)
    theirs = score(unigram_model([*(a + b for a in log_p for b in log_p), math.log(end)]), double)
    by_hand = -sum(math.log2(letters[bytes([byte])]) for text in documents for byte in text)
    by_hand = (by_hand - len(documents) * math.log2(end)) / 2000
    assert ours.bytes == theirs.bytes == 2000 and ours.tokens == 2 * theirs.tokens - 20
    assert ours.bits_per_byte == pytest.approx(by_hand, rel=1e-4)
    assert theirs.bits_per_byte == pytest.approx(by_hand, rel=1e-4)
    assert theirs.loss > 1.9 * ours.loss  # nats per token cannot be compared, bits per byte can


def test_bf16_scores_stay_close(stream):
    model = model_for(stream)
    expected = score(model, stream).bits_per_byte
    assert score(model.to(torch.bfloat16), stream).bits_per_byte == pytest.approx(
        expected, rel=0.01
    )
