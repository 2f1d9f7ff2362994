"""Translation of any number of encoded sources with greedy search, sampling or beam search.

The decoding loop runs with few distinct shapes, so that few programs are compiled.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from transformer_jax.decoding.beam import BeamSearch
from transformer_jax.decoding.lowering import lower_few, lower_many, params_on_device
from transformer_jax.decoding.next_token import SpecialIds
from transformer_jax.decoding.sampling import GreedySearch, RandomSampling
from transformer_jax.decoding.slot_loop import (
    Hypothesis,
    LoopShape,
    Request,
    translate_few,
    translate_many,
)
from transformer_jax.decoding.slots import SearchMethod, SearchModel
from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer
from transformer_jax.runtime.memory import fits_memory, require_memory

LENGTH_BUCKETS = (16, 32, 64, 128)
"""Source lengths to which sources are padded. Longer ones are padded to a multiple of the last length."""
HYPOTHESES = {"cpu": 64, "accelerator": 512}
"""Number of hypotheses that a CPU core or an accelerator extends together: on a CPU few enough for its cache."""
FEW = 8
"""Number of sentences that are decoded in a single call if there are too few to fill the slots."""
MARGIN = 8
"""A translation with this many more tokens than the longest source of its bucket fits in the ring. For a longer one,
the source is translated again, padded to twice the length, where even the longest allowed translation fits.
"""


@dataclass(frozen=True)
class Sampling:
    """Options of random sampling, which replaces the search for the best translation.

    temperature: divisor of the logits, from 0.001 to 1000. A higher temperature makes unlikely tokens more frequent.
    top_k: number of most probable tokens to draw from; 0 for all tokens.
    seed: from 0 to 2**32 - 1. The same seed draws the same translations of the same texts.

    Raises InputError if a value is out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:  # jax.random.key uses only the last 32 bits of a larger seed.
            raise InputError(f"--seed {self.seed} is out of range. Set --seed to a number from 0 to {2**32 - 1}.")
        # Outside this range logits / temperature may not be finite in float32.
        if not 1e-3 <= self.temperature <= 1e3:
            raise InputError(
                f"--temperature {self.temperature} is out of range. Set --temperature to a number from 0.001 to 1000."
            )
        if self.top_k < 0:
            raise InputError(
                f"--top-k {self.top_k} is negative. Set --top-k to a number of tokens, or to 0 for all tokens."
            )


class SearchOptions(NamedTuple):
    """Options of a search; see ``search``."""

    beam_size: int
    alpha: float
    sampling: Sampling | None
    n_best: int


def make_method(beam_size: int, alpha: float, sampling: Sampling | None, n_best: int) -> SearchMethod:
    """Return the search method. The arguments are those of ``search``."""
    if sampling is not None:
        return RandomSampling(sampling.temperature, sampling.top_k)
    return GreedySearch() if beam_size == 1 else BeamSearch(beam_size, alpha, n_best)


def make_requests(
    sources: Sequence[Sequence[int]], sampling: Sampling | None, key_numbers: Sequence[tuple[int, ...]]
) -> list[Request]:
    """Return one numbered request per source. The arguments are those of ``search``."""
    numbers = [()] * len(sources) if sampling is None else [(sampling.seed, *numbers) for numbers in key_numbers]
    return [
        Request(number, source, max_target_length(len(source)), numbers[number])
        for number, source in enumerate(sources)
    ]


def max_target_length(source_length: int) -> int:
    """Return the maximum length of a translation. Source and target lengths include [EOS]."""
    return 2 * source_length + MARGIN


def search(
    model: Transformer,
    params: Any,
    sources: Sequence[Sequence[int]],
    special_ids: SpecialIds,
    beam_size: int,
    alpha: float,
    sampling: Sampling | None = None,
    key_numbers: Sequence[tuple[int, ...]] = (),
    n_best: int = 1,
    slots: int | None = None,
) -> list[list[Hypothesis]]:
    """Return up to ``n_best`` hypotheses per source, best first.

    sources: ids of each source, [EOS] last.
    special_ids: ids of the special tokens of the target.
    beam_size: number of live hypotheses per source; 1 for greedy search.
    alpha: strength of the length penalty; 0 for none.
    sampling: if given, one hypothesis per source is drawn instead.
    key_numbers: with ``sampling``, a tuple of numbers per source. A draw depends only on these numbers and on the seed.
    n_best: maximum number of hypotheses per source. With a smaller number, the search stops earlier.
    slots: number of sentences that each CPU core or accelerator decodes together. Default: as many of
        ``default_slots`` as fit in memory.

    Raises InputError if the slots do not fit in memory.
    """
    method = make_method(beam_size, alpha, sampling, n_best)
    requests = make_requests(sources, sampling, key_numbers)
    plan, shares = _divide(model, method.beam_size, requests, slots)
    devices = loop_devices()
    results: list[list[Hypothesis]] = [[] for _ in sources]

    def run_loop(loop: int) -> None:
        search_model = SearchModel(model, params_on(devices[loop], params), special_ids)
        waiting = shares[loop]
        while waiting:
            length = min(waiting)
            group = waiting.pop(length)
            shape = _loop_shape(len(group), length, plan.slots)
            translate = translate_few if _are_few(len(group), plan.slots) else translate_many
            for request, hypotheses in translate(search_model, method, group, shape):
                if hypotheses is None:
                    waiting[padded_length(2 * length)].append(request)
                else:
                    results[request.number] = hypotheses[:n_best]

    if plan.loops == 1:
        run_loop(0)
        return results
    with ThreadPoolExecutor(plan.loops) as pool:
        for _ in pool.map(run_loop, range(plan.loops)):
            pass  # Iterating raises the exceptions of the threads.
    return results


def compile_search(
    model: Transformer,
    params: Any,
    sources: Sequence[Sequence[int]],
    special_ids: SpecialIds,
    beam_size: int,
    alpha: float,
    n_best: int = 1,
) -> None:
    """Compile the programs with which ``search`` starts to translate the sources, without running them.

    Translations that do not fit in the ring may need more programs.

    params: shapes of the parameters. ``search`` finds the compiled programs for parameters that are committed to a
        device, as by ``jax.device_put`` with a device.
    """
    method = make_method(beam_size, alpha, None, n_best)
    plan, shares = _divide(model, method.beam_size, make_requests(sources, None, ()), None)
    loops = dict.fromkeys(
        (device, _loop_shape(len(group), length, plan.slots), _are_few(len(group), plan.slots))
        for device, share in zip(loop_devices(), shares, strict=False)
        for length, group in share.items()
    )

    def compile_loop(device: jax.Device, shape: LoopShape, are_few: bool) -> None:
        search_model = SearchModel(model, params_on_device(params, device), special_ids)
        for lowered in (lower_few if are_few else lower_many)(search_model, method, shape).values():
            lowered.compile()

    with ThreadPoolExecutor(plan.loops, "compile") as pool:
        for _ in pool.map(compile_loop, *zip(*loops, strict=True)):
            pass


def _divide(
    model: Transformer, beam_size: int, requests: Sequence[Request], slots: int | None
) -> tuple[_Plan, list[dict[int, deque[Request]]]]:
    """Return the plan, and the requests of each of its loops by padded length."""
    by_length = sorted(requests, key=lambda request: -len(request.source))
    plan = _plan(model, beam_size, len(by_length[0].source) if requests else 0, len(requests), slots)
    shares: list[dict[int, deque[Request]]] = []
    for loop in range(plan.loops):
        share: dict[int, deque[Request]] = defaultdict(deque)
        # Every loop gets sentences of all lengths, so that all of them finish at about the same time.
        for request in by_length[loop :: plan.loops]:
            share[padded_length(len(request.source))].append(request)
        shares.append(share)
    return plan, shares


def params_on(device: jax.Device, params: Any) -> Any:
    """Return the parameters on a device, copied if they are elsewhere."""
    first = jax.tree.leaves(params)[0]
    is_there = isinstance(first, jax.Array) and first.devices() == {device}
    return params if is_there else jax.device_put(params, device)


def loop_devices() -> list[jax.Device]:
    """Return the device of each decoding loop that can run in parallel.

    There is one loop per accelerator of this process. On a CPU there is one per core, because the operations of one
    step are too small to use several cores. The maximum is 8, because every loop needs its own caches.
    """
    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        return devices
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return devices[:1] * min(cores, 8)


def default_slots(beam_size: int) -> int:
    """Return the number of sentences that a CPU core or an accelerator decodes together if memory suffices."""
    return max(1, HYPOTHESES["cpu" if jax.default_backend() == "cpu" else "accelerator"] // beam_size)


class _Plan(NamedTuple):
    """The resources of a search.

    loops: number of decoding loops that run in parallel.
    slots: maximum number of slots of each loop.
    """

    loops: int
    slots: int


def _plan(model: Transformer, beam_size: int, longest: int, sentences: int, slots: int | None) -> _Plan:
    """Return the number of loops and slots that fit in memory.

    longest: length of the longest source.
    slots: number of slots set by the user; None to choose it.
    Raises InputError if the slots do not fit, or not even a single one.
    """
    wanted = default_slots(beam_size) if slots is None else slots
    shape = _loop_shape(sentences, padded_length(longest), wanted)
    loops = min(len(loop_devices()), max(1, -(-sentences // min(FEW, wanted))))
    on_one_device = loops if jax.default_backend() == "cpu" else 1
    needed = on_one_device * bytes_per_slot(model, beam_size, shape)
    if slots is not None:
        require_memory(needed * shape.slots, f"{slots} slots with beam size {beam_size}", "Lower --slots.")
        return _Plan(loops, slots)
    while wanted > 1 and not fits_memory(needed * min(wanted, shape.slots)):
        wanted //= 2
    if wanted == 1 and not fits_memory(needed):
        loops, needed = 1, needed // on_one_device
    subject = f"beam size {beam_size} with texts of up to {shape.source_length} tokens"
    require_memory(needed, subject, "Lower --beam, or split the texts." if beam_size > 1 else "Split the texts.")
    return _Plan(loops, wanted)


def bytes_per_slot(model: Transformer, beam_size: int, shape: LoopShape) -> int:
    """Return the size of the largest arrays of a slot: caches, attention weights and logits."""
    config = model.config
    caches = 2 * config.decoder_layers * config.d_model * (beam_size * shape.columns + shape.source_length)
    weights = config.heads * max(shape.source_length**2, beam_size**2 * shape.columns)
    return jnp.dtype(config.dtype).itemsize * caches + 4 * (weights + beam_size * model.target_vocab_size)


def _loop_shape(sentences: int, source_length: int, slots: int) -> LoopShape:
    """Return the shape of the loop for a number of sentences of similar length."""
    if _are_few(sentences, slots):
        slots = min(sentences if sentences == 1 else FEW, slots)
    # The ring of very long sources has room for every translation, because twice the length may not fit in memory.
    is_long = source_length > LENGTH_BUCKETS[-1]
    return LoopShape(slots, source_length, max_target_length(source_length) if is_long else source_length + MARGIN)


def _are_few(sentences: int, slots: int) -> bool:
    """Return whether the sentences would leave so many slots empty that decoding them in small groups is faster."""
    return sentences <= max(1, min(slots // 2, 4 * FEW))


def padded_length(length: int) -> int:
    """Return the length to which a source is padded."""
    largest = LENGTH_BUCKETS[-1]
    return next((bucket for bucket in LENGTH_BUCKETS if bucket >= length), -(-length // largest) * largest)
