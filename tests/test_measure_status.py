"""The status rule on made-up evidence, and on runs that were planted to fail in a known way."""

import numpy as np
import pytest
import torch
from model_toys import HEALTHY, markov_splits, rough_model, stream_of, text_of, tiny_design, toy_run

from mytnano.designs.rungs import design
from mytnano.measure.status import (
    Evidence,
    context_kl_bits,
    judge,
    still_falling,
    visible_tokens,
)
from mytnano.training.engine import Engine
from mytnano.training.loop import train

EVIDENCE = {
    "sees": 32, "model_bpb": 4.39, "uniform_bpb": 8.0, "unigram_bpb": 4.4, "bigram_bpb": 3.4,
    "kl_bits": (0.001, 0.001), "falling": False,
}  # fmt: skip


def verdict(**changes):
    return judge(Evidence(**{**EVIDENCE, **changes}))


def test_a_unigram_in_disguise():
    assert verdict() == "collapsed"
    assert verdict(falling=True) == "undertrained"
    assert verdict(model_bpb=4.9) == "collapsed"  # no better than the unigram
    assert verdict(model_bpb=4.34, kl_bits=(0.001, 0.5)) == "healthy"  # 1.4 % better
    assert verdict(kl_bits=(0.5, 0.5)) == "healthy"  # it reads its context, badly
    assert verdict(kl_bits=(0.5, 0.5), falling=True) == "undertrained"  # badly so far


def test_a_bigram_in_disguise():
    bigram = {"model_bpb": 3.39, "kl_bits": (2.0, 0.001)}
    assert verdict(**bigram) == "collapsed"
    assert verdict(**bigram, falling=True) == "undertrained"
    assert verdict(**bigram, sees=1) == "healthy"  # it cannot see more than a bigram does
    assert verdict(model_bpb=3.39, kl_bits=(2.0, 0.2)) == "healthy"
    assert verdict(model_bpb=3.3, kl_bits=(2.0, 0.001)) == "healthy"
    assert verdict(sees=1) == "collapsed"  # a bigram that is a unigram


@pytest.mark.parametrize("bpb", [None, float("nan"), float("inf"), 8.02])
def test_diverged(bpb):
    assert verdict(model_bpb=bpb) == "diverged"
    assert verdict(model_bpb=8.001) != "diverged"


def test_a_run_that_has_hardly_begun_has_not_diverged():
    assert verdict(model_bpb=8.3, falling=True) == "undertrained"
    assert verdict(model_bpb=8.3) == "diverged"
    assert verdict(model_bpb=80.0, falling=True) == "diverged"  # it exploded, and is coming back


def test_falling():
    assert not still_falling([], 8.0) and not still_falling([5.0], 8.0)
    assert still_falling(np.linspace(6, 4, 10).tolist(), 8.0)
    assert not still_falling([6.0, 4.41, 4.4] + 7 * [4.4], 8.0)
    assert not still_falling([6.0] + 9 * [4.4] + [4.39], 8.0)
    assert not still_falling([4.4] * 5 + [4.5] * 5, 8.0)
    assert not still_falling([5.0, 4.4, 4.5, 4.4, 4.5, 4.45, 4.5, 4.4, 4.5, 4.4], 8.0)
    assert still_falling([6.0, float("nan"), 5.0, 4.0], 8.0)
    # A tiny learning rate: next to nothing, but steadily.
    assert still_falling(np.linspace(7.999, 7.99, 10).tolist(), 8.0)
    assert not still_falling([7.99] * 10, 8.0)
    # A decayed learning rate: flat at its end only.
    decayed = 4 + np.cos(np.linspace(0, np.pi, 10))
    assert still_falling(decayed.tolist(), 8.0)


def test_what_a_design_can_see():
    assert visible_tokens(tiny_design("bigram")) == 1
    assert visible_tokens(tiny_design("average")) == visible_tokens(tiny_design("mytnano")) == 12


def kl(model, documents, keep):
    return context_kl_bits(model, stream_of(documents), keep)


DOCUMENTS = [bytes(row) for row in np.random.default_rng(0).integers(0, 256, (40, 15), np.uint8)]


def small(id, **changes):
    return rough_model(tiny_design(id, vocab_size=257, **changes))


def test_replacing_what_is_not_read_changes_nothing():
    bigram = small("bigram")
    assert kl(bigram, DOCUMENTS, 1) == pytest.approx(0, abs=1e-6)
    assert kl(bigram, DOCUMENTS, 0) > 0.01
    deaf = small("average-current")
    with torch.no_grad():
        deaf.embedding.weight.fill_(1.0)
    assert kl(deaf, DOCUMENTS, 0) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("id", ["average", "average-positions", "mytnano"])
def test_replacing_what_is_read_shows(id):
    model = small(id)
    assert kl(model, DOCUMENTS, 0) > kl(model, DOCUMENTS, 1) > 0.005


def test_kl_by_hand():
    model = small("average", context=15)
    pair = [b"abcdefghijklmno", b"ABCDEFGHIJKLMNO"]
    ids = torch.tensor([[256, *text[:14]] for text in pair])
    with torch.no_grad():
        for keep in (0, 1, 3):
            mixed = ids.clone()
            mixed[:, : 15 - keep] = ids.flip(0)[:, : 15 - keep]
            p, q = (model.logits(x)[:, -1].log_softmax(-1) for x in (ids, mixed))
            expected = (p.exp() * (p - q)).sum(-1).mean() / np.log(2)
            assert kl(model, pair, keep) == pytest.approx(expected.item(), rel=1e-4)


def test_the_windows_are_taken_from_the_whole_text():
    model = small("average", context=15)
    same, other = [b"abcdefghijklmno"] * 20, [b"ABCDEFGHIJKLMNO"] * 20
    assert context_kl_bits(model, stream_of(same), 1, windows=4) == pytest.approx(0, abs=1e-6)
    assert context_kl_bits(model, stream_of(same + other), 1, windows=4) > 0.005


def test_a_text_of_less_than_two_windows_can_be_judged():
    assert kl(small("mytnano", context=100), [b"abcdefgh" * 10], 0) > 0


def test_a_bag_of_words_reads_its_context():
    topics = [b"abcd", b"efgh", b"ijkl", b"mnop"]
    rng = np.random.default_rng(1)
    documents = [bytes(rng.choice(list(topics[i % 4]), 70).tolist()) for i in range(200)]
    text = text_of([documents[:120], documents[120:160], documents[160:]])
    config = toy_run(text, 200, model={"layers": 1}, optim={"lr": 0.02})
    engine = Engine(config)
    stream = text.train
    for step in range(200):
        first = 1 + 71 * (np.arange(8) + 8 * step) % (120 * 71)
        span = first[:, None] + np.arange(config.model.context + 1)
        x, y = (torch.from_numpy(stream.ids[span + i].astype(np.int64)) for i in (0, 1))
        engine.gradients(x, y)
        engine.update(0.02)
    for keep in (0, 1):
        assert context_kl_bits(engine.exact_model(), text.validation, keep) > 1


STACK = {
    name: value
    for name, value in design("stack").model.model_dump().items()
    if name not in ("vocab_size", "context")
} | {"width": 32, "ffn_width": 128}
PLANTED = {
    # Four blocks without residual paths or norms forget their input and keep the head's bias.
    "collapsed": {"steps": 200, "window": 64, "model": STACK, "optim": {"lr": 2e-3}},
    "undertrained: tiny rate": {"steps": 30, "window": 64, "model": STACK, "optim": {"lr": 5e-5}},
    "undertrained: few steps": {"steps": 20, "window": 64, "model": STACK, "optim": {"lr": 2e-3}},
    "undertrained: decayed": {
        "steps": 12,
        "model": HEALTHY,
        "optim": {"lr": 5e-3, "schedule": "cosine"},
    },
    "undertrained: hardly begun": {"steps": 30, "model": HEALTHY, "optim": {"lr": 1e-6}},
    "healthy": {"steps": 150, "model": HEALTHY, "optim": {"lr": 5e-3}},
    "healthy: bag of words": {
        "steps": 200,
        "model": {"layers": 1, "residual": True},
        "optim": {"lr": 2e-2},
    },
    "healthy: bigram": {"steps": 200, "optim": {"lr": 2e-2}},
    "diverged": {"steps": 60, "model": HEALTHY, "optim": {"lr": 100.0}},
}


@pytest.fixture(scope="module")
def text():
    return text_of(markov_splits(2, b"abcdefgh", 80_000, 12_000)[1])


@pytest.mark.parametrize("case", PLANTED)
def test_planted_runs(case, text, tmp_path):
    config = toy_run(text, **PLANTED[case])
    result = train(config, text, tmp_path)
    evidence = result["status_evidence"]
    assert result["status"] == case.partition(":")[0], evidence
    assert evidence["sees"] == (config.model.context if config.model.layers else 1)
    if case == "collapsed":
        assert result["test_bpb"] == pytest.approx(evidence["unigram_bpb"], rel=0.02)
        assert max(evidence["kl_bits"]) < 0.01
        assert result["mechanism"][-1]["blocks"][-1]["rank_one_distance"] < 0.1
    if case == "healthy":
        assert result["test_bpb"] < 0.97 * evidence["bigram_bpb"]
        assert min(evidence["kl_bits"]) > 0.05
