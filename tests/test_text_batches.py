"""Training windows: where they lie, what they hold, and what decides that."""

import numpy as np
import pytest
from model_toys import TableTokenizer, stream_of, words

from mytnano.errors import UserError
from mytnano.text.batches import Windows, tokens_per_window

DOCUMENTS = words(7, 480, seed=1)
WINDOW = 40
PAIRS = TableTokenizer(
    [bytes([a]) for a in range(256)] + [bytes([a, b]) for a in range(32, 123) for b in b"aeiou "]
)


@pytest.fixture(scope="module")
def stream():
    return stream_of(DOCUMENTS)


def windows(stream, seed=0, salt="", batch=3, context=None, window=WINDOW):
    context = context or tokens_per_window(stream, window)
    return Windows(stream, window, context, batch, seed, salt)


def test_targets_are_inputs_one_token_later(stream):
    w = windows(stream)
    x, y = w.batch(5)
    assert x.shape == y.shape == (3, w.context) and x.dtype == y.dtype == np.int64
    assert np.array_equal(x[:, 1:], y[:, :-1])
    for row, start in zip(range(3), w.starts(5), strict=True):
        assert np.array_equal(x[row], stream.ids[start : start + w.context])
        assert np.array_equal(y[row], stream.ids[start + 1 : start + w.context + 1])


def test_a_batch_is_a_function_of_seed_and_step(stream):
    first = windows(stream)
    ordered = [first.starts(step) for step in range(60)]
    second = windows(stream)
    for step in reversed(range(60)):
        assert np.array_equal(second.starts(step), ordered[step])
    for other in (windows(stream, seed=1), windows(stream, salt="twin")):
        assert not np.array_equal(
            np.concatenate([other.starts(step) for step in range(10)]),
            np.concatenate(ordered[:10]),
        )


def test_many_runs_side_by_side_shuffle_once_each(stream, monkeypatch):
    shuffled = []
    shuffle = Windows._shuffle
    monkeypatch.setattr(
        Windows, "_shuffle", lambda self, epoch: shuffled.append(self.key) or shuffle(self, epoch)
    )
    runs = [windows(stream, seed) for seed in range(5)]
    for step in range(3):
        for run in runs:
            run.batch(step)
    assert len(shuffled) == 5


def test_batch_size_does_not_change_the_order(stream):
    one, many = windows(stream, batch=1), windows(stream, batch=30)
    alone = np.concatenate([one.starts(step) for step in range(210)])
    assert np.array_equal(alone, np.concatenate([many.starts(step) for step in range(7)]))


@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_an_epoch_has_each_window_once(stream, epoch):
    w = windows(stream, batch=1)
    steps = range(epoch * w.per_epoch, (epoch + 1) * w.per_epoch)
    starts = np.sort([int(w.starts(step)[0]) for step in steps])
    assert w.per_epoch == stream.byte_count // WINDOW
    phase = int(stream.offsets[starts[0]])
    assert 0 <= phase < WINDOW
    whole = starts[starts < len(stream.ids) - w.context - 1]
    assert len(whole) >= w.per_epoch - 2  # the last ones are moved to end with the text
    assert np.array_equal(stream.offsets[whole], phase + WINDOW * np.arange(len(whole)))


def test_epochs_differ_in_order_and_phase(stream):
    w = windows(stream, batch=1)
    epochs = np.array([w.starts(step)[0] for step in range(6 * w.per_epoch)]).reshape(6, -1)
    orders = {tuple(np.argsort(epoch)) for epoch in epochs}
    phases = {int(stream.offsets[epoch.min()]) for epoch in epochs}
    assert len(orders) == 6 and len(phases) >= 4


def test_all_but_the_first_window_is_sure_to_be_trained_on(stream):
    w = windows(stream)
    seen = np.zeros(len(stream.ids), bool)
    for step in range(40 * w.per_epoch // 3):
        seen[w.starts(step)[:, None] + 1 + np.arange(w.context)] = True
    assert seen[WINDOW:].all() and seen.mean() > 0.99


def test_two_vocabularies_see_the_same_text_in_the_same_order(stream):
    pairs = stream_of(DOCUMENTS, PAIRS)
    assert len(pairs.ids) < 0.8 * len(stream.ids)
    one, other = windows(stream), windows(pairs)
    assert other.context == tokens_per_window(pairs, WINDOW) < one.context
    for step in range(100):
        bytes_one = stream.offsets[one.starts(step)]
        bytes_other = pairs.offsets[other.starts(step)]
        inside = bytes_other < pairs.offsets[len(pairs.ids) - other.context - 1]
        difference = (bytes_other - bytes_one)[inside]
        assert np.all((difference >= 0) & (difference <= 1))  # the next token's start


def test_context_spans_the_window_on_average(stream):
    for s in (stream, stream_of(DOCUMENTS, PAIRS)):
        context = tokens_per_window(s, WINDOW)
        assert abs(context * s.byte_count / len(s.ids) - WINDOW) < s.byte_count / len(s.ids)
    assert tokens_per_window(stream_of([b"abcdef"] * 9, TableTokenizer([b"abcdef"])), 8) == 3
    assert tokens_per_window(stream_of([b"abcdefgh"], TableTokenizer([b"abcdefgh"])), 1) == 2


@pytest.mark.parametrize("tokenizer", [None, PAIRS], ids=["bytes", "pairs"])
def test_tokens_and_bytes_are_exact(tokenizer):
    s = stream_of(DOCUMENTS, tokenizer)
    lengths = (tokenizer or PAIRS).byte_lengths
    w = windows(s, batch=2)
    tokens = read = 0
    for step in range(130):
        assert w.tokens_and_bytes(step) == (tokens, read)
        for row in w.batch(step)[1]:
            tokens += len(row)
            read += sum(int(lengths[id]) if id != s.vocab_size - 1 else 0 for id in row)
    assert w.tokens_and_bytes(130) == windows(s, batch=2).tokens_and_bytes(130) == (tokens, read)
    planned = 130 * 2 * WINDOW
    assert abs(read - planned) < 0.05 * planned


def test_pairs_are_all_pairs_of_the_batches(stream):
    w = windows(stream)
    x, y = w.pairs(4)
    assert np.array_equal(x, np.concatenate([w.batch(step)[0].ravel() for step in range(4)]))
    assert np.array_equal(y, np.concatenate([w.batch(step)[1].ravel() for step in range(4)]))


def test_more_windows_than_an_epoch_in_one_batch():
    s = stream_of([b"ab" * 30])
    w = windows(s, batch=7, window=20)
    assert w.per_epoch == 3
    starts = np.concatenate([w.starts(step) for step in range(3)])
    for epoch in range(7):
        assert len(set(starts[3 * epoch : 3 * epoch + 3] // 20)) >= 2


@pytest.mark.parametrize("documents", [[b"short"], [b"x" * (WINDOW - 1)]])
def test_too_little_text_is_refused(documents):
    with pytest.raises(UserError, match=r"less than one window of 40: give more text"):
        windows(stream_of(documents), context=WINDOW)
