"""Adam with the learning-rate schedule of the paper."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from transformer_jax.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, d_model: int, steps: int) -> optax.Schedule:
    """Return the learning-rate schedule: linear warm-up to factor / sqrt(d_model * warmup), then a decay.

    inverse_sqrt: factor * d_model^-0.5 * min(step^-0.5, step * warmup^-1.5), where step starts at 1.
    cosine: half a cosine, from the same peak to zero at ``steps``.
    Source: Vaswani et al. 2017, section 5.3, equation 3; Loshchilov and Hutter 2017, equation 5, without restarts.
    """
    peak = config.factor / (d_model * config.warmup) ** 0.5

    def rate(completed: ArrayLike) -> Array:
        step = jnp.asarray(completed) + 1
        if config.schedule == "inverse_sqrt":
            return peak * jnp.minimum(step / config.warmup, (config.warmup / step) ** 0.5)
        progress = jnp.clip((step - config.warmup) / max(1, steps - config.warmup), 0, 1)
        return peak * jnp.minimum(step / config.warmup, 0.5 * (1 + jnp.cos(jnp.pi * progress)))

    return rate


def make_optimizer(config: OptimizerConfig, d_model: int, steps: int) -> optax.GradientTransformation:
    """Return Adam, preceded by clipping of the global gradient norm if ``clip_norm`` is not 0."""
    adam = optax.adam(learning_rate(config, d_model, steps), config.beta1, config.beta2, config.epsilon)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adam) if config.clip_norm else adam
