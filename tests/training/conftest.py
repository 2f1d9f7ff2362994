"""A small run for the tests of training."""

import pytest
from number_words import write_corpus

from transformer_jax.config import (
    Config,
    DataConfig,
    DecodingConfig,
    ModelConfig,
    OptimizerConfig,
    TokenizerConfig,
    TrainingConfig,
)
from transformer_jax.training.loop import fit


@pytest.fixture(scope="session")
def make_config(tmp_path_factory):
    """A function that returns the config of a run that takes seconds."""
    directory = tmp_path_factory.mktemp("data")
    write_corpus(directory)

    def make(steps=12, **training):
        return Config(
            model=ModelConfig(d_model=16, d_ff=32, heads=2, encoder_layers=1, decoder_layers=1, dropout=0.1),
            data=DataConfig(
                *(str(directory / f"{name}.tsv") for name in ("train", "valid", "test")),
                max_length=16,
                batch_tokens=512,
            ),
            tokenizer=TokenizerConfig(kind="word", size=40),
            decoding=DecodingConfig(beam=1),
            optimizer=OptimizerConfig(warmup=10, factor=2.0),
            training=TrainingConfig(
                **{"steps": steps, "valid_every": 4, "log_every": 2, "valid_sentences": 23, "ema": 0.9, **training}
            ),
        )

    return make


@pytest.fixture(scope="session")
def finished_run(make_config, tmp_path_factory):
    """The run directory of a finished run."""
    workdir = tmp_path_factory.mktemp("runs") / "numbers"
    fit(make_config(), workdir, recipe="numbers")
    return workdir
