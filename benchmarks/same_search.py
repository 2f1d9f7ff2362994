"""Search on an accelerator compared with search on the CPU: the same token ids, except for ties.

    python -m benchmarks.same_search --workdir runs/NAME --source data/multi30k/test_2016_flickr.en.gz

Both compute in float32. The accelerator translates twice: with its default precision of matrix products, which is lower
than float32 on recent GPUs, and with the highest. Where the ids of a sentence differ, the CPU computes the
log-probabilities of both tokens at the first difference. If they differ by less than ``TIE``, the sentence is a tie, in
which rounding decides. In beam search, the CPU compares the scores of the complete translations instead.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.record import machine
from transformer_jax.commands.cli import use_compilation_cache
from transformer_jax.data.sources import read_lines
from transformer_jax.decoding.beam import length_penalty
from transformer_jax.decoding.next_token import SpecialIds
from transformer_jax.decoding.search import search
from transformer_jax.decoding.translator import Translator
from transformer_jax.model.transformer import Transformer
from transformer_jax.storage import atomic

ALPHA = 0.6
TIE = 1e-3
BEAMS = {"greedy": 1, "beam 4": 4}
PRECISIONS: dict[str, dict[str, str]] = {
    "default precision": {},
    "highest precision": {"JAX_DEFAULT_MATMUL_PRECISION": "highest"},
}
"""Name -> environment variables of a process that translates on the accelerator."""
Ids = list[list[int]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class SameSearchBenchmark:
    """Compare the translations of an accelerator and the CPU."""

    workdir: Path
    """Run directory of a trained model."""
    source: Path
    """File to translate, with one sentence per line: plain or compressed text."""
    sentences: int = 1000
    """Number of sentences to translate."""
    output: Path | None = None
    """JSON file for the result."""


class SearchModel:
    """A run in float32 with the encoded sentences, on the devices of this process."""

    def __init__(self, benchmark: SameSearchBenchmark) -> None:
        translator = Translator.load(benchmark.workdir)
        source, target = translator.tokenizers
        lines = [line.decode().rstrip("\r\n") for line in islice(read_lines(benchmark.source), benchmark.sentences)]
        self.sources = [[*ids, source.eos_id] for ids in source.encode(lines)]
        self.special_ids = SpecialIds(*target.special_ids)
        self.params = translator.params
        config = dataclasses.replace(translator.config.model, dtype="float32")
        self.model = Transformer(config, len(source), len(target))

    def translate(self) -> dict[str, Ids]:
        """Return the ids of the best translation of every sentence by kind of search."""
        results = {}
        for name, beam in BEAMS.items():
            found = search(self.model, self.params, self.sources, self.special_ids, beam, ALPHA)
            results[name] = [list(n_best[0].ids) for n_best in found]
        return results

    def log_probabilities(self, source: list[int], target: list[int]) -> np.ndarray:
        """Return the log-probability of each target token after the previous ones."""
        # One shape for all sentences compiles once.
        length = 2 * max(map(len, self.sources)) + 8
        rows = [np.full((1, length), self.special_ids.pad) for _ in range(2)]
        rows[0][0, : len(source)], rows[1][0, : len(target)] = source, [self.special_ids.sos, *target[:-1]]
        segments = [np.arange(length)[None] < len(ids) for ids in (source, target)]
        log_probs = _log_probs(self.model, self.params, *map(jnp.asarray, (*rows, *segments)))
        return np.asarray(log_probs)[np.arange(len(target)), target]

    def is_tie(self, name: str, source: list[int], first: list[int], second: list[int]) -> bool:
        """Return whether two different translations are equally good up to rounding."""
        position = next(i for i in range(len(first)) if first[: i + 1] != second[: i + 1])
        scores = []
        for ids in (first, second):
            log_probs = self.log_probabilities(source, ids)
            is_greedy = BEAMS[name] == 1
            scores.append(log_probs[position] if is_greedy else log_probs.sum() / length_penalty(len(ids), ALPHA))
        return bool(abs(scores[0] - scores[1]) < TIE)


def _forward(model: Transformer, params: Any, source: Any, target: Any, *segments: Any) -> Any:
    logits = model.apply({"params": params}, source, target, *(one.astype(jnp.int32) for one in segments))
    return jax.nn.log_softmax(logits[0])


_log_probs = jax.jit(_forward, static_argnums=0)


def run_in(environment: Mapping[str, str], function: Callable[..., Result], *arguments: Any) -> Result:
    """Call the function in a new process with these environment variables."""
    saved = dict(os.environ)
    os.environ.update(environment)
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(function, *arguments).result()
    finally:
        os.environ.clear()
        os.environ.update(saved)


def translate(benchmark: SameSearchBenchmark) -> tuple[dict[str, Ids], dict[str, Any]]:
    """Return the translations by kind of search, and a description of this machine."""
    return SearchModel(benchmark).translate(), machine()


def count(benchmark: SameSearchBenchmark, translations: Mapping[str, Mapping[str, Ids]]) -> dict[str, dict[str, int]]:
    """Translate on the devices of this process, and count equal, tied and other translations.

    translations: those of the accelerator by precision and kind of search.
    """
    model = SearchModel(benchmark)
    expected = model.translate()
    results = {}
    for precision, found in translations.items():
        for name in BEAMS:
            pairs = zip(model.sources, expected[name], found[name], strict=True)
            different = [triple for triple in pairs if triple[1] != triple[2]]
            ties = sum(model.is_tie(name, *triple) for triple in different)
            counts = {"same": len(model.sources) - len(different), "ties": ties, "different": len(different) - ties}
            results[f"{name}, {precision}"] = counts
    return results


def main() -> None:
    """Compare the translations and print the counts."""
    benchmark = tyro.cli(SameSearchBenchmark)
    use_compilation_cache()
    found = {name: run_in(environment, translate, benchmark) for name, environment in PRECISIONS.items()}
    translations = {name: by_search for name, (by_search, _) in found.items()}
    counts = run_in({"JAX_PLATFORMS": "cpu"}, count, benchmark, translations)
    for name, numbers in counts.items():
        print(f"{name}: {', '.join(f'{number} {kind}' for kind, number in numbers.items())}")
    if benchmark.output:
        [*_, (_, accelerator)] = found.values()
        record = {"tie": TIE, "counts": counts, "machine": accelerator}
        atomic.write_text(benchmark.output, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
