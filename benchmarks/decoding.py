"""Decoding speed compared with CTranslate2 and Hugging Face ``generate``.

    python -m benchmarks.decoding --workdir runs/NAME --source data/multi30k/test_2016_flickr.lc.norm.tok.en.gz
    python -m benchmarks.decoding --workdir runs/NAME --source data/multi30k/train.en.gz --dtype bfloat16 \
        --slots 64 256 1024 --sentences 4096 --systems transformer_jax "Hugging Face"    # on a GPU

The benchmark measures throughput (sentences per second, sorted by length) and latency (milliseconds per sentence).
Input and output are token ids. All systems use the same weights. On a CPU they use all cores for batches; for single
sentences, CTranslate2 and Hugging Face use one thread. On a GPU, this package and Hugging Face use the GPU. Each system
runs in its own process, and the systems are timed alternately. The model must use post-norm and a joint vocabulary.
The peers require requirements-parity.txt.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import tyro

from benchmarks.record import Spread, measure_in_turn, read_baseline, report, require_packages, spread_of
from transformer_jax.commands.cli import use_compilation_cache
from transformer_jax.data.sources import read_lines
from transformer_jax.decoding.next_token import SpecialIds
from transformer_jax.decoding.search import default_slots, loop_devices, max_target_length, search
from transformer_jax.decoding.translator import Translator
from transformer_jax.model.transformer import Transformer

System = Literal["transformer_jax", "CTranslate2", "Hugging Face"]
Dtype: TypeAlias = Literal["float32", "bfloat16"]
Sentences = list[list[int]]
Decode = Callable[[Sentences, int, int], Sentences]
"""Function that maps source ids with [EOS], a beam size and a number of slots to the ids of the best translations
without [EOS].
"""


@dataclass(frozen=True)
class DecodingBenchmark:
    """Compare the decoding speed of this package, CTranslate2 and Hugging Face."""

    workdir: Path
    """Run directory of a trained model."""
    source: Path
    """File to translate, with one sentence per line: plain or compressed text."""
    systems: tuple[System, ...] = ("transformer_jax", "CTranslate2", "Hugging Face")
    """Systems to measure."""
    dtype: Dtype = "float32"
    """Data type of the arithmetic."""
    slots: tuple[int, ...] = (64,)
    """Numbers of sentences to decode at the same time: slots in this package, the batch size in the others."""
    sentences: int = 1000
    """Number of sentences to translate with the largest number of slots. Fewer slots translate proportionally fewer."""
    singles: int = 50
    """Number of these sentences to translate one at a time as well."""
    repeats: int = 5
    """Number of measurements. Their median is reported. 0 only compiles, which fills the compilation cache."""
    output: Path | None = None
    """JSON file for the measurements."""
    against: Path | None = None
    """JSON file of an earlier run to compare with."""


def search_in_slots(
    model: Transformer, params: Any, sources: Sentences, special_ids: SpecialIds, beam: int, slots: int
) -> Sentences:
    """Return the best translations by this package's beam search."""
    if jax.default_backend() == "cpu":
        slots = min(slots, default_slots(beam))  # More are slower.
    n_best_lists = search(model, params, sources, special_ids, beam, alpha=0.6, slots=slots)
    return [list(best.ids[:-1]) for best, *_ in n_best_lists]


def ours(translator: Translator, threads: int, dtype: Dtype) -> Decode:
    """Return this package's beam search. ``threads`` has no effect, because XLA uses all cores."""
    special_ids = SpecialIds(*translator.tokenizers.target.special_ids)
    config = dataclasses.replace(translator.config.model, dtype=dtype)
    model = Transformer(config, len(translator.tokenizers.source), len(translator.tokenizers.target))

    def decode(sources: Sentences, beam: int, slots: int) -> Sentences:
        return search_in_slots(model, translator.params, sources, special_ids, beam, slots)

    return decode


def ctranslate2(translator: Translator, threads: int, dtype: Dtype) -> Decode:
    """Return CTranslate2's beam search. It uses one thread per worker, which is its fastest setting for batches."""
    import ctranslate2

    from transformer_jax.bridges.ctranslate2 import export_ctranslate2

    with tempfile.TemporaryDirectory() as directory:
        export_ctranslate2(translator, Path(directory) / "model")
        model = ctranslate2.Translator(f"{directory}/model", inter_threads=threads, intra_threads=1, compute_type=dtype)

    pieces = translator.tokenizers.target.pieces(range(len(translator.tokenizers.target)))
    ids_by_piece = {piece: token_id for token_id, piece in enumerate(pieces)}

    def decode(sources: Sentences, beam: int, slots: int) -> Sentences:
        results = model.translate_batch(
            [translator.tokenizers.source.pieces(source[:-1]) for source in sources],  # The exported model adds [EOS].
            beam_size=beam,
            length_penalty=0.6,
            max_batch_size=slots,
            max_decoding_length=max_target_length(max(map(len, sources))),
        )
        return [[ids_by_piece[piece] for piece in result.hypotheses[0]] for result in results]

    return decode


def hugging_face(translator: Translator, threads: int, dtype: Dtype) -> Decode:
    """Return Hugging Face ``generate`` for a MarianMT model with the same weights, on a GPU if there is one."""
    import torch

    from benchmarks.peers.marian_model import marian_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = marian_model(translator)
    model = model.to(device, getattr(torch, dtype))
    pad = translator.tokenizers.target.pad_id

    def decode(sources: Sentences, beam: int, slots: int) -> Sentences:
        torch.set_num_threads(threads)  # The number is global to the process.
        translations: Sentences = []
        for start in range(0, len(sources), slots):
            batch = [torch.tensor(source) for source in sources[start : start + slots]]
            ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=pad).to(device)
            with torch.inference_mode():
                outputs = model.generate(
                    input_ids=ids,
                    attention_mask=(ids != pad).long(),
                    num_beams=beam,
                    length_penalty=0.6,
                    do_sample=False,
                    max_new_tokens=max_target_length(ids.shape[1]),
                )
            special = {pad, translator.tokenizers.target.sos_id, translator.tokenizers.target.eos_id}
            translations += [[token for token in row if token not in special] for row in outputs.tolist()]
        return translations

    return decode


SYSTEMS: dict[System, Callable[[Translator, int, Dtype], Decode]] = {
    "transformer_jax": ours,
    "CTranslate2": ctranslate2,
    "Hugging Face": hugging_face,
}
PACKAGES: dict[System, tuple[str, ...]] = {
    "transformer_jax": (),
    "CTranslate2": ("ctranslate2",),
    "Hugging Face": ("torch", "transformers"),
}
BEAMS = {"greedy": 1, "beam 4": 4}


class DecodingRunner:
    """A decoding system with the sentences to translate. Calling it measures the system once."""

    def __init__(self, benchmark: DecodingBenchmark, system: System) -> None:
        translator = Translator.load(benchmark.workdir)
        lines = [line.decode().rstrip("\r\n") for line in islice(read_lines(benchmark.source), benchmark.sentences)]
        encoded = [[*ids, translator.tokenizers.source.eos_id] for ids in translator.tokenizers.source.encode(lines)]
        shares = {slots: len(encoded) * slots // max(benchmark.slots) for slots in benchmark.slots}
        self.sources = {slots: sorted(encoded[:share], key=len) for slots, share in shares.items()}
        shortest_list = self.sources[min(benchmark.slots)]
        self.singles = shortest_list[:: max(1, len(shortest_list) // benchmark.singles)]
        self.batches, self.single = (
            SYSTEMS[system](translator, threads, benchmark.dtype) for threads in (len(loop_devices()), 1)
        )
        if system == "transformer_jax":
            self.compile()

    def compile(self) -> None:
        """Compile the programs of all measurements at the same time, which is faster where there are many cores."""
        decodings = [(self.sources[slots], beam, slots) for slots in self.sources for beam in BEAMS.values()]
        decodings += [(self.singles[:1], beam, 1) for beam in BEAMS.values()]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda decoding: self.batches(*decoding), decodings))

    def __call__(self) -> dict[str, float]:
        """Return throughput, output tokens and median latency of greedy search and of beam search."""
        results: dict[str, float] = {}
        for name, beam in BEAMS.items():
            for slots, sources in self.sources.items():
                at = f", {slots} slots" if len(self.sources) > 1 else ""
                began = time.perf_counter()
                translations = self.batches(sources, beam, slots)
                results[f"{name}{at}, sentences/s"] = len(sources) / (time.perf_counter() - began)
                results[f"{name}{at}, tokens"] = sum(map(len, translations))
            times = []
            for source in self.singles:
                began = time.perf_counter()
                self.single([source], beam, 1)
                times.append(time.perf_counter() - began)
            results[f"{name}, one sentence, ms"] = 1000 * statistics.median(times)
        return results


def measure(benchmark: DecodingBenchmark) -> dict[str, Spread]:
    """Measure all systems, alternating between them, and return measurement name -> spread."""
    systems: dict[str, Any] = {system: partial(DecodingRunner, benchmark, system) for system in benchmark.systems}
    measured = measure_in_turn(systems, benchmark.repeats)
    names = next(iter(measured.values()))[0] if benchmark.repeats else {}
    return {
        f"{name}: {system}": spread_of([repeat[name] for repeat in measured[system]])
        for name in names
        for system in systems
    }


def main() -> None:
    """Measure the decoding speed and print a report."""
    benchmark = tyro.cli(DecodingBenchmark)
    baseline = read_baseline(benchmark.output, benchmark.against)
    require_packages(*(package for system in benchmark.systems for package in PACKAGES[system]))
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # The systems share one GPU.
    use_compilation_cache()  # The processes of the systems inherit this setting.
    report(measure(benchmark), "decoding", benchmark.output, baseline)


if __name__ == "__main__":
    main()
