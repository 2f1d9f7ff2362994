"""A run directory for translation and for the start of another training: parameters without optimizer state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.config import Config, save_config
from transformer_jax.data.run_tokenizers import Tokenizers, save_tokenizers
from transformer_jax.storage import atomic
from transformer_jax.storage.checkpoints import Checkpoints, Progress
from transformer_jax.training.state import TrainState


def write_run(workdir: Path, config: Config, tokenizers: Tokenizers, params: Any, step: int = 1) -> None:
    """Write config, tokenizers and one checkpoint, which is named after ``step``."""
    save_config(config, workdir / "config.json")
    save_tokenizers(tokenizers, workdir)
    steps, skipped = jnp.asarray(step, jnp.int32), jnp.zeros((), jnp.int32)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(TrainState(steps, params, (), None, jax.random.key(0), skipped), Progress(best_step=step))
    atomic.sync(workdir)
