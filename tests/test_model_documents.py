"""Documents kept apart: a window of several gives what each gives alone."""

import pydantic
import pytest
import torch
from model_toys import HEALTHY, random_ids, rough_model, text_of, tiny_design, toy_run, words

from mytnano.model import attention
from mytnano.model.transformer import documents_of
from mytnano.training.engine import Engine

EOD = 10


def parts_of_window():
    ids = random_ids(tiny_design("mytnano", context=12), 2, 12).clamp(max=EOD - 1)
    ids[0, 5] = ids[0, 9] = ids[1, 0] = ids[1, 6] = EOD
    return ids


def test_documents_are_numbered_from_their_first_symbol():
    ids = torch.tensor([[3, EOD, 4, EOD, EOD, 5], [EOD, 1, 2, 3, 4, EOD]])
    assert documents_of(ids, EOD).tolist() == [[0, 1, 1, 2, 3, 3], [1, 1, 1, 1, 1, 2]]


@pytest.mark.parametrize("kernel", ["explicit", "tiled", "sdpa"])
def test_a_window_of_documents_is_each_document_alone(kernel, monkeypatch):
    config = tiny_design("mytnano", kernel="explicit" if kernel == "explicit" else "flash")
    assert config.positions == "rope" and config.layers > 1
    monkeypatch.setattr(attention, "TILE", 4)
    monkeypatch.setattr(attention, "TILED_UP_TO", 0 if kernel == "sdpa" else 512)
    model, ids = rough_model(config), parts_of_window()
    documents = documents_of(ids, EOD)
    together = model.encode(model.embedding(ids), documents=documents)  # (B, T, D)
    for row, numbers in enumerate(documents):
        for number in numbers.unique():
            mine = numbers == number
            alone = model.encode(model.embedding(ids[row, mine])[None])[0]
            assert torch.allclose(together[row, mine], alone, atol=1e-5)
    assert not torch.allclose(together, model.encode(model.embedding(ids)), atol=1e-3)


def test_a_run_trains_with_documents_apart():
    splits = [words(30, 60, seed=0), words(2, 700, seed=1), words(2, 700, seed=2)]
    text = text_of(splits)
    data = {"cross_documents": False, "end_of_document": text.tokenizer.eod_id}
    apart = toy_run(text, 4, window=64, model=HEALTHY, data=data)
    joined = toy_run(text, 4, window=64, model=HEALTHY)
    x = torch.from_numpy(text.train.spans(torch.arange(8).numpy() * 70, joined.model.context + 1))
    inputs, targets = x[:, :-1], x[:, 1:]
    assert (inputs == text.tokenizer.eod_id).any()
    losses = {}
    for name, config in (("apart", apart), ("joined", joined)):
        engine = Engine(config)
        for _ in range(4):  # what is at zero first must learn to look back
            losses[name] = engine.gradients(inputs, targets).item()
            engine.update(1e-2)
    assert abs(losses["apart"] - losses["joined"]) > 1e-5
    assert apart.hash != joined.hash


def test_only_attention_can():
    text = text_of([words(8, 300, seed=s) for s in range(3)])
    with pytest.raises(pydantic.ValidationError, match="only attention can keep documents apart"):
        toy_run(text, 1, model={"layers": 1, "mixer": "mean"}, data={"cross_documents": False})
