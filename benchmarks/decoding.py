"""Decoding speed compared with CTranslate2 and Hugging Face ``generate``.

    python -m benchmarks.decoding --workdir runs/NAME --source data/multi30k/test_2016_flickr.lc.norm.tok.en.gz

The benchmark measures throughput (sentences per second in batches of 64, sorted by length) and latency (milliseconds
per sentence). Input and output are token ids. All systems use the same weights in float32 on a CPU. They use all cores
for batches. For single sentences, CTranslate2 and Hugging Face use one thread. Each system runs in its own process, and
the systems are timed alternately. The model must use post-norm and a joint vocabulary. Requires
requirements-parity.txt.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import tyro

from benchmarks.record import Spread, measure_in_turn, read_baseline, report, require_packages, spread_of
from transformer_jax.commands.cli import use_compilation_cache
from transformer_jax.data.sources import read_lines
from transformer_jax.decoding.search import max_parallel_batches, max_target_length, search
from transformer_jax.decoding.search_inputs import SpecialIds
from transformer_jax.decoding.translator import Translator

Sentences = list[list[int]]
Decode = Callable[[Sentences, int], Sentences]
"""Function that maps source ids with [EOS] and a beam size to the ids of the best translations without [EOS]."""
BATCH_SIZE = 64


@dataclass(frozen=True)
class DecodingBenchmark:
    """Compare the decoding speed of this package, CTranslate2 and Hugging Face."""

    workdir: Path
    """Run directory of a trained model."""
    source: Path
    """File to translate, with one sentence per line: plain or compressed text."""
    sentences: int = 1000
    """Number of sentences to translate in batches."""
    singles: int = 50
    """Number of these sentences to translate one at a time as well."""
    repeats: int = 5
    """Number of measurements. Their median is reported."""
    output: Path | None = None
    """JSON file for the measurements."""
    against: Path | None = None
    """JSON file of an earlier run to compare with."""


def ours(translator: Translator, threads: int) -> Decode:
    """Return this package's beam search. ``threads`` has no effect, because XLA uses all cores."""
    special_ids = SpecialIds(*translator.tokenizers.target.special_ids)

    def decode(sources: Sentences, beam: int) -> Sentences:
        n_best_lists = search(translator.model, translator.params, sources, special_ids, beam, alpha=0.6)
        return [list(best.ids[:-1]) for best, *_ in n_best_lists]

    return decode


def ctranslate2(translator: Translator, threads: int) -> Decode:
    """Return CTranslate2's beam search. It uses one thread per worker, which is its fastest setting for batches."""
    import ctranslate2

    from transformer_jax.bridges.ctranslate2 import export_ctranslate2

    with tempfile.TemporaryDirectory() as directory:
        export_ctranslate2(translator, Path(directory) / "model")
        model = ctranslate2.Translator(f"{directory}/model", inter_threads=threads, intra_threads=1)

    pieces = translator.tokenizers.target.pieces(range(len(translator.tokenizers.target)))
    ids_by_piece = {piece: token_id for token_id, piece in enumerate(pieces)}

    def decode(sources: Sentences, beam: int) -> Sentences:
        results = model.translate_batch(
            [translator.tokenizers.source.pieces(source[:-1]) for source in sources],  # The exported model adds [EOS].
            beam_size=beam,
            length_penalty=0.6,
            max_batch_size=BATCH_SIZE,
            max_decoding_length=max_target_length(max(map(len, sources))),
        )
        return [[ids_by_piece[piece] for piece in result.hypotheses[0]] for result in results]

    return decode


def hugging_face(translator: Translator, threads: int) -> Decode:
    """Return Hugging Face ``generate`` for a MarianMT model with the same weights."""
    import torch

    from benchmarks.peers.marian_model import marian_model

    model = marian_model(translator)
    pad = translator.tokenizers.target.pad_id

    def decode(sources: Sentences, beam: int) -> Sentences:
        torch.set_num_threads(threads)  # The number is global to the process.
        translations: Sentences = []
        for start in range(0, len(sources), BATCH_SIZE):
            batch = [torch.tensor(source) for source in sources[start : start + BATCH_SIZE]]
            ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=pad)
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


SYSTEMS = {"transformer_jax": ours, "CTranslate2": ctranslate2, "Hugging Face": hugging_face}


class DecodingRunner:
    """A decoding system with the sentences to translate. Calling it measures the system once."""

    def __init__(self, benchmark: DecodingBenchmark, system: str) -> None:
        translator = Translator.load(benchmark.workdir)
        lines = [line.decode().rstrip("\r\n") for line in islice(read_lines(benchmark.source), benchmark.sentences)]
        encoded = ([*ids, translator.tokenizers.source.eos_id] for ids in translator.tokenizers.source.encode(lines))
        self.sources = sorted(encoded, key=len)
        self.singles = self.sources[:: max(1, len(self.sources) // benchmark.singles)]
        self.batches, self.single = (SYSTEMS[system](translator, threads) for threads in (max_parallel_batches(), 1))
        self.system = system

    def __call__(self) -> dict[str, float]:
        """Return throughput, output tokens and median latency of greedy search and of beam search."""
        results: dict[str, float] = {}
        for name, beam in (("greedy", 1), ("beam 4", 4)):
            began = time.perf_counter()
            translations = self.batches(self.sources, beam)
            results[f"{name}, sentences/s"] = len(self.sources) / (time.perf_counter() - began)
            results[f"{name}, tokens"] = sum(map(len, translations))
            times = []
            for source in self.singles:
                began = time.perf_counter()
                self.single([source], beam)
                times.append(time.perf_counter() - began)
            results[f"{name}, one sentence, ms"] = 1000 * statistics.median(times)
        return results


def measure(benchmark: DecodingBenchmark) -> dict[str, Spread]:
    """Measure all systems, alternating between them, and return measurement name -> spread."""
    systems = {system: partial(DecodingRunner, benchmark, system) for system in SYSTEMS}
    measured = measure_in_turn(systems, benchmark.repeats)
    names = next(iter(measured.values()))[0]
    return {
        f"{name}: {system}": spread_of([repeat[name] for repeat in measured[system]])
        for name in names
        for system in systems
    }


def main() -> None:
    """Measure the decoding speed and print a report."""
    benchmark = tyro.cli(DecodingBenchmark)
    baseline = read_baseline(benchmark.output, benchmark.against)
    require_packages("ctranslate2", "torch", "transformers")
    use_compilation_cache()  # The processes of the systems inherit this setting.
    report(measure(benchmark), "decoding", benchmark.output, baseline)


if __name__ == "__main__":
    main()
