"""Keys and values in int8: their bytes, how far they are off, and what is done to them."""

from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import DynamicSlidingWindowLayer

from engine.techniques.generation import caches
from engine.techniques.generation.int8_cache import Int8Layer, Int8SlidingLayer, Int8States, int8_cache
from tests.engine import language_models
from tests.engine.techniques.generation.decoders import WINDOW, make

BATCH, HEADS, SIZE = 2, 3, 64


def _states(tokens: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """With a few large values, as keys have."""
    source = torch.Generator().manual_seed(seed)
    states = torch.randn(BATCH, HEADS, tokens, SIZE, generator=source)
    states[..., 5] *= 20
    return states.to(dtype)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 0.3), (torch.bfloat16, 0.55), (torch.float16, 0.55)])
def test_it_takes_a_byte_for_each_number_and_a_scale_for_each_head(dtype: torch.dtype, most: float) -> None:
    states = _states(40, dtype=dtype)
    kept = Int8States.of(states)
    n_bytes = kept.whole.nbytes + kept.scale.nbytes
    assert n_bytes == BATCH * HEADS * 40 * (SIZE + dtype.itemsize)
    assert n_bytes <= most * states.nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_number_is_off_by_half_a_step_at_most(dtype: torch.dtype) -> None:
    """And by the rounding of what is read, where that has fewer bits."""
    states = _states(40, dtype=dtype)
    kept = Int8States.of(states)
    read = kept.read_before(_states(0, dtype=dtype))
    assert read.dtype == dtype
    step = kept.scale.float()
    bound = step * 0.501 + states.float().abs() * torch.finfo(dtype).eps
    assert ((read.float() - states.float()).abs() <= bound).all()


def test_nothing_but_zeros_stays_zero() -> None:
    states = torch.zeros(1, 1, 3, SIZE)
    assert (Int8States.of(states).read_before(states) == 0).all()


@pytest.mark.parametrize("layer", [Int8Layer(), Int8SlidingLayer(sliding_window=100)])
def test_what_is_kept_is_rounded_once_and_what_comes_is_not_rounded(layer: Int8Layer | Int8SlidingLayer) -> None:
    first, second, third = _states(6, 1), _states(2, 2), _states(1, 3)
    assert layer.update(first, first)[0] is first
    layer.update(second, second)
    keys, values = layer.update(third, third)
    expected = torch.cat([Int8States.of(each).read_before(_states(0)) for each in (first, second)] + [third], dim=-2)
    assert torch.equal(keys, expected)
    assert torch.equal(values, expected)
    assert layer.get_seq_length() == 9


def test_the_last_tokens_are_given_back() -> None:
    layer = Int8Layer()
    layer.update(_states(6, 1), _states(6, 1))
    layer.crop(-2)
    assert layer.get_seq_length() == 4
    keys, _ = layer.update(_states(1, 2), _states(1, 2))
    assert torch.equal(keys[..., :4, :], Int8States.of(_states(6, 1)).read_before(_states(0))[..., :4, :])


def test_a_window_slides_as_transformers_lets_it() -> None:
    """With guesses that are given back: as many tokens are seen as with transformers' own layer."""
    ours, theirs = Int8SlidingLayer(sliding_window=WINDOW), DynamicSlidingWindowLayer(sliding_window=WINDOW)
    for layer in (ours, theirs):
        layer.update(_states(20), _states(20))
        layer.activate_past_recording()
    for n, wrong in ((4, 2), (1, 0), (5, 5), (3, 1)):
        assert ours.get_mask_sizes(n) == theirs.get_mask_sizes(n)
        seen, expected = (layer.update(_states(n, n), _states(n, n))[0] for layer in (ours, theirs))
        assert seen.shape == expected.shape
        assert torch.allclose(seen, expected, atol=0.3)
        for layer in (ours, theirs):
            layer.crop(-wrong)
    assert ours.get_seq_length() == theirs.get_seq_length()
    assert ours.kept is not None
    assert ours.kept[0].whole.size(-2) == WINDOW - 1


def test_sequences_are_chosen_from_a_batch() -> None:
    layer = Int8Layer()
    layer.update(_states(4), _states(4))
    layer.reorder_cache(torch.tensor([1, 1, 0]))
    assert layer.kept is not None
    assert torch.equal(layer.kept[0].whole, Int8States.of(_states(4)[[1, 1, 0]]).whole)
    layer.reset()
    assert layer.get_seq_length() == 0


@pytest.mark.parametrize("name", ["gpt2", "llama", "wide heads", "latent", "window in turns"])
def test_a_model_goes_on_with_it_nearly_as_without(name: str) -> None:
    """Logits of a text that is read token by token through the cache; its bytes are those of the formula."""
    model = make(name)
    ids = torch.randint(5, language_models.VOCABULARY, (2, 10), generator=torch.Generator().manual_seed(1))
    cache = int8_cache(model.config.get_text_config())
    with torch.no_grad():
        whole = model(ids).logits
        model(ids[:, :4], past_key_values=cache)
        steps = [model(ids[:, i : i + 1], past_key_values=cache).logits for i in range(4, 10)]
    assert torch.allclose(torch.cat(steps, dim=1), whole[:, 4:], atol=0.02)
    assert not torch.equal(torch.cat(steps, dim=1), whole[:, 4:])
    if name != "window in turns":
        assert caches.kv_bytes(cache) == 2 * 10 * caches.kv_bytes_per_token(model.config, "int8", torch.float32)
