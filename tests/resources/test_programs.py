"""Programs that the compiler refuses because they do not fit."""

from types import SimpleNamespace

import jax
import pytest

from transformer_jax.config import Config, DataConfig, DecodingConfig, MeshConfig, ModelConfig, TokenizerConfig
from transformer_jax.data.batches import BatchShape
from transformer_jax.resources.programs import OutOfMemory, compile_evaluation, compile_program, compile_search
from transformer_jax.sharding import make_mesh
from transformer_jax.training import loss


@pytest.mark.parametrize(
    ("message", "needed", "available"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (63.50G) "
            "exceeds available HBM (15.75G).",
            63.5 * 2**30,
            15.75 * 2**30,
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 512.0M of 15.75G hbm. Exceeded",
            2**29,
            15.75 * 2**30,
        ),
        ("RESOURCE_EXHAUSTED: something else", 0, 0),
    ],
)
def test_refused_program_states_its_memory(message, needed, available):
    def refuse():
        raise jax.errors.JaxRuntimeError(message)

    with pytest.raises(OutOfMemory) as caught:
        compile_program(SimpleNamespace(compile=refuse))
    assert (caught.value.needed, caught.value.available) == (needed, available)


def test_other_errors_of_the_compiler_are_not_hidden():
    def fail():
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        compile_program(SimpleNamespace(compile=fail))


CONFIG = Config(
    model=ModelConfig(d_model=24, d_ff=40, heads=4, encoder_layers=1, decoder_layers=1),
    data=DataConfig(batch_tokens=24 * 13, max_length=13),
    tokenizer=TokenizerConfig(size=88),
    decoding=DecodingConfig(beam=3),
)


def test_evaluation_is_compiled_as_for_an_accelerator(monkeypatch):
    """The default device is a CPU, whose small chunks would make a loop."""
    monkeypatch.setattr(loss, "default_chunk_size", None)  # A call would fail.
    program = compile_evaluation(CONFIG, make_mesh(MeshConfig()), BatchShape(24, 13, 13))
    assert program.temporary > 0
    assert [collective.in_loop for collective in program.collectives] == [False] * len(program.collectives)


def test_search_uses_one_device_of_the_mesh():
    program = compile_search(CONFIG, make_mesh(MeshConfig()), 13)
    assert not program.collectives
    assert program.arguments > 64 * 13 * 4
