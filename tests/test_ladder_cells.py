"""From rungs to jobs: the resolved configs, the vocabulary that the text supports, the estimate."""

import random

import pytest
from ladder_toys import write_text

from mytnano.config import DataConfig
from mytnano.designs.budgets import BUDGETS, MIB
from mytnano.designs.rates import learning_rate_for
from mytnano.designs.rungs import RUNGS, design
from mytnano.errors import UserError
from mytnano.ladder.cells import Where, cell, job, supported_tokenizer
from mytnano.ladder.estimate import run_seconds, scored_bytes

SMOKE = BUDGETS["smoke"]


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    text = write_text(folder / "farm.txt", 60_000)
    return Where(DataConfig(corpus=str(text)), folder / "out", "fp32", "cpu")


def test_a_cell_is_a_design_with_rate_budget_text_and_machine(where):
    config = cell(RUNGS["attention"], SMOKE, 3, where)
    plain = design("attention")
    assert config.model.but(vocab_size=0, context=0) == plain.model
    assert config.model.vocab_size > 20 and config.model.context > 200
    assert config.optim == plain.optim.but(lr=learning_rate_for("attention", MIB // 32))
    assert config.data.corpus == where.data.corpus and len(config.data.fingerprint) == 64
    train = config.train
    assert (train.seed, train.train_bytes, train.device) == (3, MIB // 32, "cpu")
    assert (train.precision, train.test_bytes) == ("fp32", 65_536)


def test_the_job_of_a_cell_is_named_by_rung_seed_and_hash(where):
    config = cell(RUNGS["attention"], SMOKE, 3, where)
    made = job(RUNGS["attention"], config, where, 30_000)
    assert made.name == "attention-s3" and made.hash == config.hash
    assert made.folder == where.out / "runs" / f"attention-s3-{config.hash}"
    assert made.expected_seconds == run_seconds(config, where.corpus, 30_000)


def test_a_sweep_chooses_rate_and_vocabulary(where):
    rates = {"train_bytes": MIB, "rungs": {"bpe": {"lr": 1e-3}}}
    swept = Where(where.data, where.out, "fp32", "cpu", rates, "bpe:512")
    config = cell(RUNGS["bpe"], BUDGETS["quick"], 0, swept)
    assert (config.data.tokenizer, config.optim.lr) == ("bpe:512", 1e-3)
    assert config.model.vocab_size == 512


def test_the_next_smaller_power_of_two_that_the_text_supports(where):
    said = []
    config = cell(RUNGS["bpe"], SMOKE, 0, where, said.append)
    size = config.model.vocab_size
    assert config.data.tokenizer == f"bpe:{size}" and size & (size - 1) == 0
    (sentence,) = said
    most = int(sentence.split("at most bpe:")[1].split()[0])
    assert size <= most < 2 * size
    supported = supported_tokenizer(config.data, where.cache)
    assert supported == (f"bpe:{size}", "")


def test_a_text_that_supports_no_vocabulary_in_use(tmp_path):
    path, chance = tmp_path / "few.txt", random.Random(0)
    path.write_text(" ".join(chance.choice(("ab", "ba", "aa", "bb")) for _ in range(10_000)))
    where = Where(DataConfig(corpus=str(path)), tmp_path / "out", "fp32", "cpu")
    with pytest.raises(UserError, match="the smallest in use is bpe:512: add text, or choose"):
        cell(RUNGS["bpe"], SMOKE, 0, where)
    assert cell(RUNGS["bigram"], SMOKE, 0, where).data.tokenizer == "char"


def test_the_estimate_grows_with_the_work_and_falls_with_the_speed(where):
    small = cell(RUNGS["pre-norm"], SMOKE, 0, where)
    seconds = run_seconds(small, where.corpus, 30_000)
    assert run_seconds(small, where.corpus, 60_000) == pytest.approx(seconds / 2)
    longer = small.but(train={"train_bytes": MIB})
    arithmetic = run_seconds(longer, where.corpus, 30_000) - seconds
    assert (
        arithmetic
        > 25 * run_seconds(small.but(train={"train_bytes": MIB // 32}), where.corpus, 30_000) / 4
    )
    deeper = small.but(model={"layers": 8})
    assert 1.5 * seconds < run_seconds(deeper, where.corpus, 30_000) < 2.5 * seconds


def test_only_text_that_is_scored_counts(where):
    config = cell(RUNGS["bigram"], SMOKE, 0, where)
    corpus = where.corpus
    validation, test = (sum(map(len, split)) for split in (corpus.validation, corpus.test))
    assert scored_bytes(config, corpus) == 10 * 4096 + min(32_768, validation) + test
    unscored = config.but(train={"score_test": False})
    assert scored_bytes(unscored, corpus) == scored_bytes(config, corpus) - test
