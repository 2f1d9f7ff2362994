"""A finished run directory with random parameters, which is created in a second and can translate."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.config import Config, DataConfig, DecodingConfig, ModelConfig, TokenizerConfig, save_config
from transformer_jax.data.records import Pair
from transformer_jax.data.run_tokenizers import save_tokenizers, train_tokenizers
from transformer_jax.model.transformer import Transformer
from transformer_jax.storage.checkpoints import Checkpoints, Progress
from transformer_jax.training.optimizer import make_optimizer
from transformer_jax.training.state import TrainState

SOURCES = ["Where is the old station?", "The old dog is here.", "Where is the dog?", "Is it 3.5?"] * 3
TARGETS = ["Wo ist der alte Bahnhof?", "Der alte Hund ist hier.", "Wo ist der Hund?", "Ist es 3,5?"] * 3
PAIRS = list(map(Pair, SOURCES, TARGETS))
TINY_CONFIG = Config(
    # All sizes differ, so that swapped axes are detected.
    model=ModelConfig(d_model=14, d_ff=19, heads=2, encoder_layers=1, decoder_layers=2, dropout=0.1),
    data=DataConfig(max_length=17),
    tokenizer=TokenizerConfig(kind="bpe", vocabulary="joint", size=311),
    decoding=DecodingConfig(beam=3, length_penalty=0.6),
)


def make_run(workdir, config=TINY_CONFIG, seed=0):
    """Write config, tokenizers, one checkpoint and the results that mark a run as finished, and return ``workdir``."""
    workdir.mkdir(parents=True, exist_ok=True)
    save_config(config, workdir / "config.json")
    tokenizers = train_tokenizers(config.tokenizer, PAIRS)
    save_tokenizers(tokenizers, workdir)
    model = Transformer(config.model, len(tokenizers.source), len(tokenizers.target))
    params = random_params(model, seed)
    optimizer = make_optimizer(config.optimizer, config.model.d_model, config.training.steps)
    step, skipped = jnp.ones((), jnp.int32), jnp.zeros((), jnp.int32)
    state = TrainState(step, params, optimizer.init(params), None, jax.random.key(0), skipped)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(state, Progress(best_step=1, best_score=50.0))
    (workdir / "results.json").write_text(json.dumps({"scores": {}}))
    return workdir


def random_params(model, seed):
    """Draw parameters with numpy, without compilation."""
    tokens = jnp.ones((1, 1), jnp.int32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, tokens, tokens, tokens))["params"]
    generator = np.random.default_rng(seed)

    def fill(path, leaf):
        mean = 1.0 if path[-1].key == "gamma" else 0.0
        return jnp.asarray(mean + 0.3 * generator.standard_normal(leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """Return the directory of a finished run. Tests that change it must work on a copy."""
    return make_run(tmp_path_factory.mktemp("runs") / "tiny")
