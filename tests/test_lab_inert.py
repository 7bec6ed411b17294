"""Changes that change nothing are refused before any compute; those that act are not."""

import pytest
from lab_toys import TINY, question, where

from mytnano.errors import UserError
from mytnano.lab.plan import make_plan
from mytnano.lab.spec import read_spec

MEAN = {"mixer": "mean", "positions": "none"}
BIGRAM = {"layers": 0, "positions": "none"}

INERT = [
    ({"positions": "learned"}, {"rope_base": 500.0}, "model.rope_base changes nothing"),
    (MEAN, {"kv_heads": 1}, "model.kv_heads changes nothing"),
    (MEAN, {"kernel": "explicit"}, "model.kernel changes nothing"),
    (BIGRAM, {"heads": 1}, "model.heads changes nothing"),
    (BIGRAM, {"ffn": "relu"}, "model.ffn changes nothing"),
    (BIGRAM, {"dropout": 0.5}, "model.dropout changes nothing"),
    (BIGRAM, {"init": "torch"}, "model.init changes nothing"),
    ({"norm": "none"}, {"norm_place": "post"}, "model.norm_place changes nothing"),
    ({"schedule": "constant"}, {"final_lr": 0.5}, "optim.final_lr changes nothing"),
    ({}, {"momentum": 0.5}, "optim.momentum changes nothing"),
    ({}, {"rope_base": 500.0}, ""),
    ({}, {"softcap": 15.0}, ""),
    ({}, {"ema": 0.9}, ""),
    ({}, {"spike": 6.0}, ""),
    ({}, {"kernel": "explicit"}, ""),
    ({}, {"dropout": 0.1}, ""),
    ({}, {"init": "torch"}, ""),
    ({}, {"kv_heads": 1}, ""),
    ({}, {"beta2": 0.9}, ""),
    ({}, {"eps": 1e-6}, ""),
    ({}, {"weight_decay": 0.0}, ""),
    ({}, {"grad_clip": 0.5}, ""),
    ({}, {"warmup": 0.5}, ""),
    ({}, {"schedule": "constant"}, ""),
]


@pytest.mark.parametrize(("baseline", "changes", "words"), INERT)
def test_inert_changes(tmp_path, baseline, changes, words):
    spec = read_spec(question(tmp_path, baseline={**TINY, **baseline}, arms={"a": changes}))
    if not words:
        assert make_plan(spec, where(tmp_path, spec.corpus)).arms
        return
    with pytest.raises(UserError, match=f"arm 'a': {words}"):
        make_plan(spec, where(tmp_path, spec.corpus))
