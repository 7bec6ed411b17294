"""What a finished run is said to be: one row of results, its status and the evidence for it."""

from __future__ import annotations

import copy
import math

import numpy as np

from mytnano.config import RunConfig
from mytnano.measure import status
from mytnano.measure.evaluate import Score, evaluation_spans, score
from mytnano.measure.flops import training_flops
from mytnano.measure.ngrams import fit_bigram
from mytnano.model.sampling import UnusableLogits, sample
from mytnano.model.transformer import TABLES, Transformer
from mytnano.text.batches import Windows
from mytnano.text.stream import Stream
from mytnano.training.engine import Engine
from mytnano.training.optimizers import update_flops
from mytnano.training.text import Text

PROMPT = "The people"
"""What every rung continues in the report; a space at its end would be no start of a BPE word."""

SAMPLE_BYTES = 240


def describe(
    config: RunConfig, engine: Engine, text: Text, windows: Windows, history: dict, steps: int
) -> dict:
    """The result after ``steps`` steps: scores, counts, status and its evidence, mechanism, sample.

    Scores are None for a diverged run. Test text is read here and nowhere else.
    """
    tokens, read = windows.tokens_and_bytes(steps)
    train = config.train
    validation = test = None
    exact = engine.exact_model()  # whose weights are saved
    scored = exact if train.precision == "fp32" else copy.deepcopy(exact).bfloat16()
    if not history["diverged"]:
        validation = finite_score(scored, text.validation, train.validation_bytes)
    if validation and train.score_test:
        test = finite_score(scored, text.test, train.test_bytes)
    evidence = gather_evidence(
        config, exact, text, windows, history, steps, validation and validation.bits_per_byte
    )
    total, non_embedding = count_parameters(exact)
    return {
        "seed": config.train.seed,
        "tokenizer": text.tokenizer.name,
        "vocab_size": config.model.vocab_size,
        "context": config.model.context,
        "bytes_per_token": text.train.byte_count / len(text.train.ids),
        "params": total,
        "params_non_embedding": non_embedding,
        "train_bytes": read,
        "train_tokens": tokens,
        "flops": training_flops(config.model, tokens) + steps * update_flops(config),
        "test_loss": test and test.loss,
        "test_accuracy": test and test.accuracy,
        "test_perplexity": test and math.exp(min(test.loss, 700.0)),
        "test_bits_per_token": test and test.loss / math.log(2),
        "test_bpb": test and test.bits_per_byte,
        "validation_bpb": validation and validation.bits_per_byte,
        "status": status.judge(evidence),
        "status_evidence": evidence.as_json(),
        "comparable": config.train.test_bytes == 0,
        "tokens_per_second": tokens / max(history["train_seconds"], 1e-9),
        "precision": config.train.precision,
        "config_hash": config.hash,
        "mechanism": history["mechanism"],
        "prompt": PROMPT,
        "sample": "" if test is None else continuation(exact, text),
    }


def finite_score(model: Transformer, stream: Stream, max_bytes: int) -> Score | None:
    """The score of a split; None if the last updates left predictions that are not numbers."""
    scored = score(model, stream, max_bytes)
    return scored if math.isfinite(scored.nats) else None


def gather_evidence(
    config: RunConfig,
    model: Transformer,
    text: Text,
    windows: Windows,
    history: dict,
    steps: int,
    bpb: float | None,
) -> status.Evidence:
    """What :func:`~mytnano.measure.status.judge` decides on.

    The k-grams are fitted on the very bytes that this run saw.
    """
    held, size = pairs_of(text.validation, config.train.validation_bytes)
    bigram = fit_bigram(*windows.pairs(steps), config.model.vocab_size, validation=held)
    to_bits = 1 / (math.log(2) * size)
    replaced = (
        (0.0, 0.0)
        if bpb is None
        else tuple(status.context_kl_bits(model, text.validation, k) for k in (0, 1))
    )
    curve = [p["validation_bpb"] for p in history["points"] if p["validation_bpb"] is not None]
    # Text differs in how many tokens its bytes make, so the curve's text has a uniform of its own.
    curve_held, curve_size = pairs_of(text.validation, config.train.curve_bytes)
    per_token = math.log2(config.model.vocab_size)
    return status.Evidence(
        sees=status.visible_tokens(config.model),
        model_bpb=bpb,
        uniform_bpb=per_token * len(held[0]) / size,
        unigram_bpb=bigram.unigram.nats(held[1]) * to_bits,
        bigram_bpb=bigram.nats(*held) * to_bits,
        kl_bits=replaced,
        falling=status.still_falling(curve, per_token * len(curve_held[0]) / curve_size),
    )


def pairs_of(stream: Stream, max_bytes: int) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """(token, next) ids that :func:`~mytnano.measure.evaluate.score` scores, and their bytes."""
    spans = evaluation_spans(stream, len(stream.ids), max_bytes)
    place = np.concatenate(
        [np.arange(f, f + n) for f, n in zip(spans.first, spans.length, strict=True)]
    )
    ends = np.append(stream.offsets, stream.byte_count)
    return (stream.ids[place], stream.ids[place + 1]), int(
        (ends[place + 2] - ends[place + 1]).sum()
    )


def count_parameters(model: Transformer) -> tuple[int, int]:
    """All parameters, and all but the token, position, value and head tables.

    A tied table counts once.
    """
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    tables = sum(n for name, n in sizes.items() if name.startswith(TABLES))
    return sum(sizes.values()), sum(sizes.values()) - tables


def continuation(model: Transformer, text: Text) -> str:
    """About ``SAMPLE_BYTES`` bytes after the prompt, at temperature 0.8 and a fixed seed."""
    count = round(SAMPLE_BYTES * len(text.train.ids) / text.train.byte_count)
    return continued(model, text, PROMPT, count)


def continued(model: Transformer, text: Text, prompt: str, tokens: int) -> str:
    """What so many tokens after the prompt spell, at temperature 0.8 and a fixed seed; of a model
    that diverged, nothing."""
    tokenizer = text.tokenizer
    ids = [tokenizer.eod_id, *tokenizer.encode(prompt.encode()).tolist()]
    try:
        written = sample(model, ids, tokens, vocabulary=tokenizer.vocab_size)
    except UnusableLogits:
        return ""
    return tokenizer.decode(written).decode(errors="replace")
