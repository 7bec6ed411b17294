"""How long a run should take on this machine, for the plan and for the order of the runs.

Arithmetic goes at the rate of a one-second probe; what is bound by memory (optimizer, logits of a
large vocabulary) and the fixed costs are constants of the reference machine, scaled by the probe.
They were fitted to the time of the rungs at budget quick, to about 20 %.
"""

from __future__ import annotations

from mytnano.config import RunConfig
from mytnano.measure.flops import forward_flops_per_token, training_flops
from mytnano.text.corpus import Corpus
from mytnano.training.precision import PROBE

REFERENCE_SPEED = 32_500.0
"""Tokens/s of the probe on one core of the reference machine, in bf16."""

STEP = 2e-3
PARAMETER = 4.5e-9
"""Seconds of each optimizer step, and for each parameter that it updates."""

LOGIT = 1.3e-9
"""Seconds to score one logit; training forms and drops its logits while they are in the cache."""

SCORING = 0.5
"""What an operation takes where nothing is learned, as a share of what it takes in training."""

FP32 = 2.0
"""How much longer than in bf16 arithmetic takes in fp32, in which a run is measured at its end."""

MEASURED_WINDOWS = 256
"""Windows that the evidence for a run's status passes through the model."""

FIXED = 0.3
"""Seconds to build, probe and write a run."""

START = 5.0
"""Seconds until a worker process has loaded its libraries."""


def run_seconds(config: RunConfig, corpus: Corpus, speed: float) -> float:
    """Expected seconds of a resolved run that has a core to itself.

    Args:
        config: resolved, so that vocabulary and context are known.
        corpus: the text that it is scored on.
        speed: tokens/s of :data:`~mytnano.training.precision.PROBE` in the run's precision.
    """
    model, train = config.model, config.train
    flops = forward_flops_per_token(model)
    rate = speed * 3 * forward_flops_per_token(PROBE.model)  # FLOP/s
    slower = REFERENCE_SPEED / speed

    trained = config.steps * train.batch_windows * model.context  # tokens
    head = model.width * model.vocab_size
    parameters = flops / 2 + head  # each matrix is two operations a token; look-ups are none
    training = training_flops(model, trained) / rate
    training += config.steps * (STEP + PARAMETER * parameters) * slower

    scored = scored_bytes(config, corpus) * model.context / config.data.window_bytes  # tokens
    scoring = scored * (SCORING * flops / rate + LOGIT * model.vocab_size * slower)

    # The sample grows to about a window, so its tokens pass through half a window on average.
    measured = MEASURED_WINDOWS * model.context + model.context**2 / 2  # tokens
    fp32 = FP32 if train.precision == "bf16" else 1.0
    measuring = measured * (flops - 2 * head) * fp32 / rate
    return training + scoring + measuring + FIXED * slower


def scored_bytes(config: RunConfig, corpus: Corpus) -> int:
    """Bytes of text that a run scores: along the curve, at the end, and the test text."""
    train = config.train
    validation, test = (sum(map(len, split)) for split in (corpus.validation, corpus.test))
    curve = train.evaluations * min(train.curve_bytes, validation)
    at_end = min(train.validation_bytes or validation, validation)
    tested = min(train.test_bytes or test, test) if train.score_test else 0
    return curve + at_end + tested


def closing_seconds(corpus: Corpus, comparable: bool, speed: float) -> float:
    """Expected seconds of the closed-form baselines and the cost of attention."""
    size = sum(map(len, corpus.train))
    seconds = 8 + 2e-6 * size if comparable else 2 + 2e-7 * size
    return seconds * REFERENCE_SPEED / speed
