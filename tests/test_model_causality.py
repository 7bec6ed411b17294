"""Nothing that a model says about a token depends on that token or a later one."""

import pytest
import torch
from model_toys import PARTS, random_ids, rough_model, tiny_design, with_part

from mytnano.designs.rungs import AS_LOGGED, CORE, design
from mytnano.model.attention import TILE, TILED_UP_TO

CASES = [(rung.id, kernel) for rung in [*CORE, *AS_LOGGED] for kernel in ("explicit", "flash")]


@pytest.mark.parametrize(("id", "kernel"), CASES)
def test_a_state_does_not_depend_on_later_tokens(id, kernel):
    check_causal(tiny_design(id, kernel=kernel))


@pytest.mark.parametrize("kernel", ["explicit", "flash"])
@pytest.mark.parametrize("part", PARTS)
def test_no_part_looks_ahead(part, kernel):
    check_causal(with_part(part, kernel=kernel))


def check_causal(config):
    model, ids = rough_model(config), random_ids(config, 3)
    with torch.no_grad():
        states = model(ids)  # (B, T, D)
        for t in range(config.context):
            changed = ids.clone()
            changed[:, t] = (ids[:, t] + 1) % config.vocab_size
            difference = (model(changed) - states).abs().amax(-1)  # (B, T)
            assert torch.all(difference[:, :t] == 0), f"position {t} is seen before it is read"
            assert torch.all(difference[:, t] > 1e-5), f"position {t} is not read at all"


@pytest.mark.parametrize("id", [rung.id for rung in CORE])
def test_what_a_design_claims_to_see_is_what_it_sees(id):
    config = tiny_design(id)
    model, ids = rough_model(config), random_ids(config, 3)
    changed = ids.clone()
    changed[:, 0] = (ids[:, 0] + 1) % config.vocab_size
    with torch.no_grad():
        reach = (model(changed) - model(ids))[:, -1].abs().amax()
    assert (reach > 1e-5) == (design(id).model.layers > 0)


@pytest.mark.parametrize("T", [TILE - 1, TILE, TILE + 1, 2 * TILE + 2, TILED_UP_TO + 1])
@pytest.mark.parametrize("positions", ["learned", "rope", "alibi"])
def test_the_fused_kernel_does_not_look_ahead_across_tiles(T, positions):
    config = tiny_design("gqa", positions=positions, context=T, layers=2)
    model, ids = rough_model(config), random_ids(config, 1)
    with torch.no_grad():
        states = model(ids)
        for t in {0, 1, TILE - 2, TILE - 1, TILE, 2 * TILE, T - 1}:
            if t < T:
                changed = ids.clone()
                changed[:, t:] = (ids[:, t:] + 1) % config.vocab_size
                difference = (model(changed) - states).abs().amax(-1)[0]  # (T,)
                assert torch.all(difference[:t] < 1e-6)
                assert difference[t] > 1e-5


def test_gradients_flow_to_the_past_only():
    config = tiny_design("gqa", layers=2)
    model, ids = rough_model(config), random_ids(config, 1)
    embedded = []
    model.embedding.register_forward_hook(
        lambda _, __, output: embedded.append(output.retain_grad() or output)
    )
    model(ids)[0, 5].sum().backward()
    reached = embedded[0].grad[0].abs().amax(-1)  # (T,)
    assert torch.all(reached[:6] > 0) and torch.all(reached[6:] == 0)


@pytest.mark.parametrize("id", ["average", "block", "mytnano", *PARTS])
def test_a_prefix_gets_the_same_states_as_in_the_whole_window(id):
    config = with_part(id) if id in PARTS else tiny_design(id)
    model, ids = rough_model(config), random_ids(config, 2)
    with torch.no_grad():
        whole = model(ids)
        for T in (1, 2, 7):
            torch.testing.assert_close(model(ids[:, :T]), whole[:, :T], rtol=1e-5, atol=1e-5)
