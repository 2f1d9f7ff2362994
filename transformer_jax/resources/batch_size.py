"""The largest batch that fits the memory of the devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from jax.sharding import Mesh

from transformer_jax.config import Config
from transformer_jax.errors import InputError
from transformer_jax.resources.programs import OutOfMemory, StepReport, compile_step, shapes_for
from transformer_jax.runtime.memory import GIB, bytes_per_device
from transformer_jax.sharding import batch_multiple
from transformer_jax.training.compiled import require_enough_rows

PRECISION = 16
"""The search stops when the largest size that fits is known to one part in this number."""


def with_batch_tokens(config: Config, tokens: int) -> Config:
    """Return the config with another ``data.batch_tokens``."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, batch_tokens=tokens))


def tokens_per_part(config: Config, mesh: Mesh) -> int:
    """Return the smallest step by which a batch can grow: a row per data-parallel device and accumulation step."""
    return batch_multiple(mesh) * config.training.accumulate * config.data.max_length


def largest_step(config: Config, mesh: Mesh, capacity: int) -> StepReport:
    """Return the training step with the largest batch that fits. Its search starts at the batch of the config.

    capacity: bytes of memory per device.
    Raises InputError like ``compile_step``.
    Raises OutOfMemory if even the smallest batch does not fit.
    """
    require_enough_rows(config, batch_multiple(mesh) * config.training.accumulate, config.data.max_length)
    part, steps = tokens_per_part(config, mesh), dict[int, StepReport]()

    def try_parts(parts: int) -> tuple[bool, int]:
        try:
            steps[parts] = compile_step(with_batch_tokens(config, parts * part), mesh)
        except OutOfMemory as problem:
            if parts == 1:
                raise
            return False, problem.needed
        return True, steps[parts].total_memory

    state = bytes_per_device(shapes_for(config, mesh).state)
    return steps[largest_fitting(try_parts, config.data.batch_tokens // part, state, capacity)]


def largest_fitting(try_size: Callable[[int], tuple[bool, int]], first: int, constant: int, capacity: int) -> int:
    """Return the largest size that fits, to one part in PRECISION, or 0 if none fits.

    The second size is an estimate from the first. Further sizes move away from it in growing steps until the largest
    size is enclosed, and bisect from then on.

    try_size: returns whether a size fits and the memory that it needs, or 0 if that is unknown.
    first: the first size to try.
    constant: the memory that a size of 0 would need.
    capacity: the available memory.
    """
    low, high = 0, 0  # ``high`` is 0 until a size does not fit.
    size, step = first, 0
    while True:
        fits, needed = try_size(size)
        if fits:
            low = size
        else:
            high = size
        if high and high - low <= max(1, low // PRECISION):
            return low
        if not step and needed > constant:
            estimate = first * (capacity - constant) // (needed - constant)
            size = min(max(estimate, 1), high - 1) if high else max(estimate, low + 1)
            step = max(1, size // PRECISION)
        else:
            step = step or 1
            next_size = low + step if fits else high - step
            middle = (low + high) // 2 if high else next_size
            size = min(next_size, middle) if fits else max(next_size, middle)
            step *= 2


def does_not_fit(config: Config, mesh: Mesh, problem: OutOfMemory, name: str) -> InputError:
    """Return the error for a training step that does not fit. It names settings that probably fit.

    problem: the memory that the step needs.
    name: name of the devices.
    """
    rows, part = config.data.batch_tokens // config.data.max_length, tokens_per_part(config, mesh)
    state = bytes_per_device(shapes_for(config, mesh).state)
    # Memory grows linearly with the batch.
    parts = config.data.batch_tokens // part * (problem.available - state) // max(problem.needed - state, 1)
    tokens = max(parts, 0) * part
    accumulate = config.training.accumulate * -(-config.data.batch_tokens // max(tokens, 1))
    smaller = (
        f"Set --data.batch-tokens to about {tokens} (--fit finds the largest batch) or --training.accumulate to about "
        f"{accumulate}, or use more devices."
    )
    sizes = f": {problem.needed / GIB:.2f} of {problem.available / GIB:.2f} GiB needed" if problem.needed else ""
    return InputError(
        f"the training step with {rows} rows of {config.data.max_length} tokens does not fit the memory of a device "
        f"of {name}{sizes}. {smaller if tokens else 'Use more devices and raise --mesh.fsdp, or a smaller model.'}"
    )
