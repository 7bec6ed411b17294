"""The chunked loss is cross-entropy, whatever the chunk."""

import pytest
import torch
import torch.nn.functional as F

from mytnano.model import loss
from mytnano.model.loss import IGNORE, head_loss, head_scores

V, D, SHAPE = 13, 6, (3, 7)


def inputs(dtype=torch.float32, ignored=True):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(*SHAPE, D, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(V, D, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(0, V, SHAPE, generator=generator)
    if ignored:
        targets[0, 1] = targets[2, 5:] = IGNORE
    return states, weight, targets


def test_the_gradient_of_a_likely_token_survives_bf16():
    logits = torch.tensor([[9.0, 1.0, 0.0]], dtype=torch.bfloat16)  # (1, V)
    expected = logits.double().softmax(-1)[0, 0] - 1
    loss._loss_and_gradient_(logits, torch.tensor([0]), 1.0, 0.0)
    assert logits[0, 0].item() == pytest.approx(expected.item(), rel=0.01)


def plain(states, weight, targets, softcap=0.0):
    logits = (states @ weight.t()).flatten(0, 1)
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")


@pytest.fixture(
    params=[(1, 1), (4 * V, 2 * V), (10 * V + 3, 3 * V), (1 << 25, 1 << 25), (1 << 25, 5 * V)],
    ids=lambda sizes: "-".join(f"{n // V}rows" for n in sizes),
)
def chunk(request, monkeypatch):
    """Rows of a chunk and of a block: one, some, and all, and some that do not divide 21."""
    monkeypatch.setattr(loss, "CHUNK_ROWS", 1)
    monkeypatch.setattr(loss, "CHUNK_ELEMENTS", request.param[0])
    monkeypatch.setattr(loss, "BLOCK_ELEMENTS", request.param[1])


@pytest.mark.parametrize("ignored", [False, True])
def test_value_and_gradients(chunk, ignored):
    ours, theirs = inputs(ignored=ignored), inputs(ignored=ignored)
    value, expected = head_loss(*ours), plain(*theirs)
    torch.testing.assert_close(value, expected)
    (0.25 * value).backward()
    (0.25 * expected).backward()
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cap", [1.0, 3.0, 1e4])
def test_a_cap_in_value_and_gradients(chunk, cap):
    ours, theirs = inputs(), inputs()
    value, expected = head_loss(*ours, softcap=cap), plain(*theirs, softcap=cap)
    torch.testing.assert_close(value, expected)
    (0.25 * value).backward()
    (0.25 * expected).backward()
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)
    uncapped = plain(*inputs())
    assert (abs(value - uncapped) > 0.1) == (cap < 10)


def test_a_cap_in_bf16_and_with_the_weights_gradient_in_place(chunk):
    states, weight, targets = inputs(torch.bfloat16)
    theirs = inputs()
    expected = plain(*theirs, softcap=2.0)
    expected.backward()
    held = torch.zeros(V, D)
    value = head_loss(states, weight.detach(), targets, 1.0, held, 2.0)
    value.backward()
    torch.testing.assert_close(value, expected, rtol=0.01, atol=0.0)
    for one, other in ((states.grad.float(), theirs[0].grad), (held, theirs[1].grad)):
        assert (one - other).norm() < 0.03 * other.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_weights_gradient_may_be_added_in_place(chunk, dtype):
    states, weight, targets = inputs(dtype)
    _, exact, _ = theirs = inputs()
    plain(*theirs).backward()
    held = torch.ones(V, D)
    value = head_loss(states, weight.detach(), targets, 0.25, held)
    value.backward()
    torch.testing.assert_close(value, 0.25 * plain(*inputs()), rtol=1e-2, atol=0.0)
    rough = dtype == torch.bfloat16
    error = (held - 1 - 0.25 * exact.grad).norm() / (0.25 * exact.grad).norm()
    assert error < (0.02 if rough else 1e-5)
    error = (states.grad - 0.25 * theirs[0].grad).norm() / (0.25 * theirs[0].grad).norm()
    assert error < (0.02 if rough else 1e-5)


@pytest.fixture(params=[(5, 4), (V, 21), (1, 1)], ids="{0[0]}columns-{0[1]}rows".format)
def columns(request, monkeypatch):
    """Blocks of the vocabulary and of rows: some that do not divide, one of all, each alone."""
    monkeypatch.setattr(loss, "LARGE_VOCABULARY", V - 1)
    monkeypatch.setattr(loss, "CHUNK_ROWS", 20)
    monkeypatch.setattr(loss, "COLUMNS", request.param[0])
    monkeypatch.setattr(loss, "COLUMN_ROWS", request.param[1])


@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_by_columns_in_value_and_gradients(columns, cap, monkeypatch):
    (states, weight, targets), theirs = inputs(torch.bfloat16), inputs()
    with torch.no_grad():  # the same numbers, so that only roundings on the way differ
        for one, other in zip(theirs[:2], (states, weight), strict=True):
            one.copy_(other)
    (0.25 * plain(*theirs, softcap=cap)).backward()
    assert loss.goes_by_columns("cpu", torch.bfloat16, targets.numel(), V)
    monkeypatch.setattr(loss, "_by_rows", None)
    held = torch.ones(V, D)
    value = head_loss(states, weight.detach(), targets, 0.25, held, cap)
    value.backward()
    torch.testing.assert_close(value, 0.25 * plain(*theirs, softcap=cap), rtol=2e-3, atol=0.0)
    for one, other in ((states.grad.float(), theirs[0].grad), (held - 1, theirs[1].grad)):
        assert (one - other).norm() < 0.01 * other.norm()
    assert torch.all(states.grad[targets == IGNORE] == 0)


def test_by_columns_a_likely_token_keeps_its_gradient_and_large_logits_stay_finite(columns):
    states, weight, _ = inputs(torch.bfloat16, ignored=False)
    likely = (states @ weight.t()).argmax(-1)
    for factor in (4, 1e4):
        large = (factor * states).detach().requires_grad_()
        value = head_loss(large, weight.detach(), likely)
        value.backward()
        exact = large.detach().float().requires_grad_()
        expected = plain(exact, weight.detach().float(), likely)
        expected.backward()
        torch.testing.assert_close(value, expected.detach(), rtol=0.05, atol=1e-3)
        assert (large.grad.float() - exact.grad).norm() <= 0.05 * exact.grad.norm()


def test_who_goes_by_columns():
    assert loss.goes_by_columns("cpu", torch.bfloat16, 2048, 100_352)
    assert not loss.goes_by_columns("cpu", torch.float32, 2048, 100_352), "fewer multiplications"
    assert not loss.goes_by_columns("cuda", torch.bfloat16, 2048, 100_352)
    assert not loss.goes_by_columns("cpu", torch.bfloat16, 512, 100_352), "one chunk"
    assert not loss.goes_by_columns("cpu", torch.bfloat16, 2048, 4096)


def test_of_equal_top_logits_the_first_is_the_guess():
    states, weight = torch.ones(1, 2, D), torch.ones(V, D)
    _, right = head_scores(states, weight, torch.tensor([[0, 1]]))
    assert right.tolist() == [[True, False]]


def test_an_ignored_row_gets_no_gradient(chunk):
    states, weight, targets = inputs()
    head_loss(states, weight, targets).backward()
    assert torch.all(states.grad[targets == IGNORE] == 0)
    assert torch.all(states.grad[targets != IGNORE].abs().sum(-1) > 0)


def test_tied_weights_get_both_gradients(chunk):
    _, table, targets = inputs(ignored=False)
    ids = targets.roll(1)
    (own,) = torch.autograd.grad(head_loss(F.embedding(ids, table), table, targets), table)
    (expected,) = torch.autograd.grad(plain(F.embedding(ids, table), table, targets), table)
    torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Input .* requires gradient:UserWarning")
@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_gradients_are_those_of_finite_differences(cap):
    # Logits are fp32 whatever the input, so the step of the differences is a large one.
    states, weight, targets = inputs()
    assert torch.autograd.gradcheck(
        lambda s, w: head_loss(s, w, targets, softcap=cap),
        (states, weight),
        eps=1e-2,
        atol=2e-2,
        rtol=1e-2,
    )


def test_large_logits_do_not_overflow():
    states, weight, targets = inputs(ignored=False)
    value = head_loss(1e4 * states, weight, targets)
    torch.testing.assert_close(value, plain(1e4 * states, weight, targets))
    assert torch.isfinite(value)


def test_bf16_stays_close_to_fp32(chunk):
    ours, theirs = inputs(torch.bfloat16), inputs()
    value, expected = head_loss(*ours), plain(*theirs)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0.01, atol=0.0)
    value.backward()
    expected.backward()
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        assert one.grad.dtype == torch.bfloat16
        assert (one.grad.float() - other.grad).norm() < 0.02 * other.grad.norm()


@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_scores_of_each_position(chunk, cap):
    states, weight, targets = inputs()
    nats, right = head_scores(states, weight, targets, cap)
    logits = states @ weight.t()
    if cap:
        logits = cap * torch.tanh(logits / cap)
    expected = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none"
    ).view(SHAPE)
    torch.testing.assert_close(nats, expected.detach())
    assert torch.equal(right, logits.argmax(-1) == targets)
    assert nats.dtype == torch.float32 and right.dtype == torch.bool
    whole = head_loss(states, weight, targets, softcap=cap).detach()
    torch.testing.assert_close(nats.sum(), whole)
