"""The search for the largest batch that fits."""

import pytest

from transformer_jax.config import Config, DataConfig, MeshConfig, ModelConfig, TokenizerConfig
from transformer_jax.resources.batch_size import does_not_fit, largest_fitting
from transformer_jax.resources.programs import OutOfMemory, shapes_for
from transformer_jax.runtime.memory import bytes_per_device
from transformer_jax.sharding import make_mesh


@pytest.mark.parametrize("largest", [1, 2, 7, 96, 97, 1013])
@pytest.mark.parametrize("first", [1, 13, 499])
@pytest.mark.parametrize("memory_is_stated", [True, False])
def test_largest_size_is_found_in_few_trials(largest, first, memory_is_stated):
    tried = []

    def try_size(size):
        tried.append(size)
        fits = size <= largest
        return fits, 100 + 7 * size if fits or memory_is_stated else 0

    found = largest_fitting(try_size, first, 100, 100 + 7 * largest)
    assert largest - max(1, largest // 16) <= found <= largest
    assert found in tried
    assert len(tried) <= (3 if memory_is_stated else 32)


def test_nothing_fits_if_the_smallest_size_does_not():
    assert largest_fitting(lambda size: (False, 100 * size), 13, 0, 50) == 0


def test_error_names_settings_that_would_fit():
    config = Config(
        model=ModelConfig(d_model=24, d_ff=40, heads=4, encoder_layers=1, decoder_layers=1),
        data=DataConfig(batch_tokens=48 * 13, max_length=13),
        tokenizer=TokenizerConfig(size=88),
    )
    mesh = make_mesh(MeshConfig())
    state = bytes_per_device(shapes_for(config, mesh).state)
    # 6 parts of 8 rows need 600 bytes more than the state, of which 350 are there: 3 parts fit.
    problem = OutOfMemory(state + 600, state + 350)
    message = str(does_not_fit(config, mesh, problem, "v5e:2x4"))
    assert message.startswith("the training step with 48 rows of 13 tokens does not fit the memory of a device of v5e")
    assert f"Set --data.batch-tokens to about {3 * 8 * 13} " in message
    assert "--training.accumulate to about 2" in message
    for unknown in (OutOfMemory(0, 0), OutOfMemory(state + 600, state)):
        assert "Use more devices" in str(does_not_fit(config, mesh, unknown, "v5e:2x4"))
