"""The programs of a decoding loop, lowered for a device without running them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from transformer_jax.decoding.slot_loop import GROUPS, LoopShape, few_slots
from transformer_jax.decoding.slots import (
    NO_LIMIT,
    NewSentences,
    SearchMethod,
    SearchModel,
    Slots,
    decode_all,
    decode_rest,
    decode_some,
    empty_slots,
)

Lowered = dict[str, Any]
"""Name of the function of a program -> the lowered program."""


def lower_few(search_model: SearchModel, method: SearchMethod, shape: LoopShape, has_keys: bool = False) -> Lowered:
    """Return the program of ``translate_few``. The arguments are those of ``lower_many``."""
    new = _new_sentences(shape.slots, shape.source_length, has_keys)
    return {"decode_all": decode_all.lower(search_model, method, new, shape.columns)}


def lower_many(search_model: SearchModel, method: SearchMethod, shape: LoopShape, has_keys: bool = False) -> Lowered:
    """Return the programs of ``translate_many``.

    A later call of the loop finds the compiled programs only if all arguments are lowered as they are called:
    parameters and slots on the device, and new sentences as NumPy arrays.

    search_model: the model with ``params_on_device`` as parameters.
    has_keys: whether each sentence has a random key.
    """
    sizes, few = (*shape, method.beam_size, has_keys), few_slots(shape.slots)
    device = jax.tree.leaves(search_model.params)[0].sharding
    slots: Slots = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        jax.eval_shape(lambda search_model: empty_slots(search_model, *sizes), search_model),
    )
    new = _new_sentences(GROUPS * few, shape.source_length, has_keys)
    max_live, rows = np.zeros(GROUPS, np.int32), np.zeros(few, np.int32)
    return {
        "empty_slots": empty_slots.lower(search_model, *sizes),
        "decode_some": decode_some.lower(search_model, method, slots, new, max_live, NO_LIMIT),
        "decode_rest": decode_rest.lower(search_model, method, slots, rows),
    }


def params_on_device(params: Any, device: Any) -> Any:
    """Return the shapes of the parameters, as on a single device."""
    sharding = SingleDeviceSharding(device)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), params)


def _new_sentences(rows: int, source_length: int, has_keys: bool) -> NewSentences:
    source, length_limits = np.zeros((rows, source_length), np.int32), np.zeros(rows, np.int32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows)) if has_keys else None
    return NewSentences(source, length_limits, keys)
