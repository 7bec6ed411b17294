"""Continuations are the same with a cache and without, alone and in a batch, past a window too."""

import pytest
import torch
from model_toys import KINDS, rough_model

from mytnano.errors import UserError
from mytnano.inference.generate import GREEDY, Sampling, Speaker, generate, kept
from mytnano.model.sampling import sample
from mytnano.text.vocabulary import ByteTokenizer


def continued(model, prompts, tokens, sampling=GREEDY, **how):
    rows = [[] for _ in prompts]
    for step in generate(model, prompts, tokens, sampling, **how):
        for row, id in step.items():
            rows[row].append(id)
    return rows


def windows_of(ids, prompt_length, context):
    """What each generated id is predicted from, by the documented rule, written the slow way."""
    first = max(0, prompt_length - context)
    for end in range(prompt_length, len(ids)):
        if end - first > context:
            first = end - kept(context)
        yield ids[first:end], ids[end]


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_the_same_with_and_without_a_cache(kind):
    model = rough_model(KINDS[kind])
    context = model.config.context
    prompts = [[0, 3, 1], [5], [n % 11 for n in range(2 * context)]]
    with_cache = continued(model, prompts, 2 * context)
    assert with_cache == continued(model, prompts, 2 * context, cached=False)
    assert with_cache == [continued(model, [p], 2 * context)[0] for p in prompts]
    for prompt, row in zip(prompts, with_cache, strict=True):
        for window, id in windows_of(prompt + row, len(prompt), context):
            with torch.no_grad():
                logits = model.logits(torch.tensor([window]))[0, -1]
            assert logits[id] >= logits.max() - 1e-4


def test_inside_the_window_it_is_the_ladders_sample():
    model = rough_model(KINDS["mytnano"])
    assert continued(model, [[1, 2]], 9)[0] == sample(model, [1, 2], 9, temperature=0)
    model.eval()


def test_no_cache_is_kept_when_none_is_wanted(monkeypatch):
    model = rough_model(KINDS["mytnano"])
    monkeypatch.setattr("mytnano.inference.generate.Cache", None)  # calling it would fail
    assert len(continued(model, [[1]], 5, cached=False)[0]) == 5
    with pytest.raises(TypeError):
        continued(model, [[1]], 5)


def test_a_row_that_stops_leaves_the_others_alone():
    model = rough_model(KINDS["mytnano"])
    prompts = [[0], [1], [2], [3]]
    whole = continued(model, prompts, 20)
    stopped = continued(model, prompts, 20, stop=lambda row, id: id == whole[1][4])
    for row, full in zip(stopped, whole, strict=True):
        end = full.index(whole[1][4]) + 1 if whole[1][4] in full else 20
        assert row == full[:end]
    assert len(stopped[1]) <= 5 and max(map(len, stopped)) > 5


def test_draws_follow_the_seed_and_each_row_has_its_own():
    model = rough_model(KINDS["mytnano"])
    first = continued(model, [[1]] * 3, 8, Sampling(1.0, seed=4))
    assert first == continued(model, [[1]] * 3, 8, Sampling(1.0, seed=4))
    assert first != continued(model, [[1]] * 3, 8, Sampling(1.0, seed=5))
    assert first[0] != first[1]


def test_a_row_draws_by_its_number_in_whatever_batch_it_is():
    model = rough_model(KINDS["mytnano"])
    whole = continued(model, [[1]] * 3, 8, Sampling(1.0))
    assert continued(model, [[1]], 8, Sampling(1.0), numbers=[2]) == whole[2:]


def test_top_k_top_p_and_min_p_leave_the_rest_out():
    model = rough_model(KINDS["bigram"])
    with torch.no_grad():
        odds = model.logits(torch.tensor([[7]]))[0, 0].softmax(-1)
    order = odds.argsort(descending=True).tolist()
    drawn = {row[0] for row in continued(model, [[7]] * 400, 1, Sampling(1.0, top_k=3))}
    assert drawn == set(order[:3])
    assert {row[0] for row in continued(model, [[7]] * 40, 1, Sampling(1.0, top_k=1))} == {order[0]}
    third = float(odds[order[2]] / odds[order[0]]) - 1e-4
    drawn = {row[0] for row in continued(model, [[7]] * 400, 1, Sampling(1.0, min_p=third))}
    assert drawn == set(order[:3])
    half = float(odds[order[0]] + odds[order[1]]) - 1e-4
    drawn = {row[0] for row in continued(model, [[7]] * 400, 1, Sampling(1.0, top_p=half))}
    assert drawn == set(order[:2])


def test_a_model_of_nan_is_a_sentence():
    model = rough_model(KINDS["mytnano"])
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="diverged"):
        continued(model, [[1]], 2)


def test_characters_wait_for_their_last_byte():
    speaker = Speaker(ByteTokenizer())
    said = [speaker.say(byte) for byte in "aü€😀".encode()]
    assert said == ["a", "", "ü", "", "", "€", "", "", "", "😀"]
    assert speaker.end() == ""
    assert speaker.say(0xE2) == "" and speaker.end() == "�"
    assert Speaker(ByteTokenizer()).say(0xFF) == "�"


def test_nothing_is_said_from_a_stop_text_on():
    speaker = Speaker(ByteTokenizer(), ["", "stop", "so on"])
    said = [speaker.say(byte) for byte in b"a sto stop it"]
    assert said == ["a", " ", "", "", "", "sto ", "", "", "", "", "", "", ""]
    assert speaker.stopped and speaker.end() == ""
    open_end = Speaker(ByteTokenizer(), ["stop"])
    assert [open_end.say(byte) for byte in b"sto"] == ["", "", ""]
    assert open_end.end() == "sto" and not open_end.stopped


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": -1.0},
        {"top_p": float("nan")},
        {"top_p": 0.0},
        {"top_k": -1},
        {"min_p": 1.5},
        {"min_p": float("nan")},
    ],
)
def test_a_temperature_or_p_that_is_none_is_a_sentence(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))) as refused:
        Sampling(**wrong)
    assert "\n" not in str(refused.value)
