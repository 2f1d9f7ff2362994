"""Dynamic scaling of the loss for float16, whose smallest positive number is 6e-8.

Most gradients are smaller than the numbers that float16 represents well. The loss is therefore multiplied by a scale,
and the gradients are divided by it in float32. The scale is a power of two, so neither operation rounds.
Source: Micikevicius et al. 2018, section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

INITIAL_SCALE = 2.0**15
"""Largest power of two with which the gradient of a logit, at most 1 in magnitude, is finite in float16."""

GROWTH_INTERVAL = 2000
"""Consecutive finite updates after which the scale doubles, as in PyTorch's GradScaler."""

MINIMUM_SCALE = 1.0
"""Gradients that are not finite without scaling have another cause."""


class LossScale(NamedTuple):
    """The scale of the loss. It is part of the training state of runs in float16.

    value: the factor of the loss.
    finite_updates: number of consecutive updates with finite gradients since the scale changed.
    """

    value: Float[Array, ""]
    finite_updates: Int[Array, ""]

    @classmethod
    def initial(cls) -> LossScale:
        """Return the scale before the first update."""
        return cls(jnp.float32(INITIAL_SCALE), jnp.zeros((), jnp.int32))

    def can_halve(self) -> Bool[Array, ""]:
        """Return whether the scale is above its minimum, so that it may be the cause of an overflow."""
        return self.value > MINIMUM_SCALE

    def after(self, finite: Bool[Array, ""]) -> LossScale:
        """Return the scale after an update: half if it overflowed, twice after ``GROWTH_INTERVAL`` finite updates.

        finite: whether loss and gradients of the update were finite.
        """
        count = jnp.where(finite, self.finite_updates + 1, 0)
        grows = count == GROWTH_INTERVAL
        value = jnp.where(finite, self.value, jnp.maximum(self.value / 2, MINIMUM_SCALE))
        return LossScale(jnp.where(grows, value * 2, value), jnp.where(grows, 0, count))
