"""Decoding speed beside CTranslate2 and Hugging Face's ``generate``, in one run and with the same weights.

    python -m benchmarks.decoding --workdir runs/NAME --source data/multi30k/test_2016_flickr.lc.norm.tok.en.gz

Token ids in, token ids out, on CPU in float32: sentences a second in batches of 64 sorted by length, and milliseconds
for one sentence at a time. Batches have all cores, whatever the system; for one sentence the others have one thread.
Each system has a process of its own, and their repeats alternate. Needs a trained run with post-norm and one
vocabulary, and requirements-parity.txt.
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

from benchmarks.record import Spread, alternate, compared, report, require, spread
from transformer_jax.commands.cli import keep_compiled_programs
from transformer_jax.data.sources import read_lines
from transformer_jax.decoding.next_token import SpecialIds
from transformer_jax.decoding.search import max_parallel_batches, max_target_length, search
from transformer_jax.decoding.translator import Translator

Sentences = list[list[int]]
Decode = Callable[[Sentences, int], Sentences]
"""Source ids with [EOS], and a beam -> the ids of the best translations, without [EOS]."""
BATCH = 64


@dataclass(frozen=True)
class Benchmark:
    """Measure decoding speed beside CTranslate2 and Hugging Face."""

    workdir: Path
    """Run folder of a trained model."""
    source: Path
    """Text to translate, one sentence a line: plain, .gz or .xz."""
    sentences: int = 1000
    """How many lines."""
    singles: int = 50
    """How many of them are also translated one at a time."""
    repeats: int = 5
    """Measurements of each; the median counts."""
    output: Path | None = None
    """JSON file to write."""
    against: Path | None = None
    """JSON file of an earlier run, to compare with."""


def ours(translator: Translator, threads: int) -> Decode:
    """The searches of this package. XLA takes all threads, whatever is asked for."""
    special_ids = SpecialIds(*translator.tokenizers.target.special_ids)

    def decode(sources: Sentences, beam: int) -> Sentences:
        found = search(translator.model, translator.params, sources, special_ids, beam, length_penalty=0.6)
        return [list(best.ids[:-1]) for best, *_ in found]

    return decode


def ctranslate2(translator: Translator, threads: int) -> Decode:
    """CTranslate2: workers of one thread each, which its users find fastest."""
    import ctranslate2

    from transformer_jax.bridges.ctranslate2 import export_ctranslate2

    with tempfile.TemporaryDirectory() as folder:
        export_ctranslate2(translator, Path(folder) / "model")
        model = ctranslate2.Translator(f"{folder}/model", inter_threads=threads, intra_threads=1)

    pieces = translator.tokenizers.target.pieces(range(len(translator.tokenizers.target)))
    ids = {piece: number for number, piece in enumerate(pieces)}

    def decode(sources: Sentences, beam: int) -> Sentences:
        results = model.translate_batch(
            [translator.tokenizers.source.pieces(source[:-1]) for source in sources],  # It adds [EOS] by itself.
            beam_size=beam,
            length_penalty=0.6,
            max_batch_size=BATCH,
            max_decoding_length=max_target_length(max(map(len, sources))),
        )
        return [[ids[piece] for piece in result.hypotheses[0]] for result in results]

    return decode


def hugging_face(translator: Translator, threads: int) -> Decode:
    """Marian's ``generate``, by the model that Hugging Face's users take for translation."""
    import torch

    from benchmarks.peers.marian_model import marian

    model = marian(translator)
    pad = translator.tokenizers.target.pad_id

    def decode(sources: Sentences, beam: int) -> Sentences:
        torch.set_num_threads(threads)  # One number for the whole process.
        translations: Sentences = []
        for start in range(0, len(sources), BATCH):
            part = [torch.tensor(source) for source in sources[start : start + BATCH]]
            ids = torch.nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=pad)
            with torch.inference_mode():
                found = model.generate(
                    input_ids=ids,
                    attention_mask=(ids != pad).long(),
                    num_beams=beam,
                    length_penalty=0.6,
                    do_sample=False,
                    max_new_tokens=max_target_length(ids.shape[1]),
                )
            special = {pad, translator.tokenizers.target.sos_id, translator.tokenizers.target.eos_id}
            translations += [[token for token in row if token not in special] for row in found.tolist()]
        return translations

    return decode


SYSTEMS = {"transformer_jax": ours, "CTranslate2": ctranslate2, "Hugging Face": hugging_face}


class Runner:
    """One system with the sentences to translate; a call measures it once."""

    def __init__(self, benchmark: Benchmark, system: str) -> None:
        translator = Translator.load(benchmark.workdir)
        lines = [line.decode().rstrip("\r\n") for line in islice(read_lines(benchmark.source), benchmark.sentences)]
        encoded = ([*ids, translator.tokenizers.source.eos_id] for ids in translator.tokenizers.source.encode(lines))
        self.sources = sorted(encoded, key=len)
        self.singles = self.sources[:: max(1, len(self.sources) // benchmark.singles)]
        self.batches, self.single = (SYSTEMS[system](translator, threads) for threads in (max_parallel_batches(), 1))
        self.system = system

    def __call__(self) -> dict[str, float]:
        """Sentences a second, and milliseconds a sentence (the median of them), by search."""
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


def measure(benchmark: Benchmark) -> dict[str, Spread]:
    """All systems in turn."""
    systems = {system: partial(Runner, benchmark, system) for system in SYSTEMS}
    measured = alternate(systems, benchmark.repeats)
    names = next(iter(measured.values()))[0]
    return {
        f"{name}: {system}": spread([one[name] for one in measured[system]]) for name in names for system in systems
    }


def main() -> None:
    """Measure and report."""
    benchmark = tyro.cli(Benchmark)
    earlier = compared(benchmark.output, benchmark.against)
    require("ctranslate2", "torch", "transformers")
    keep_compiled_programs()  # The processes of the systems inherit it.
    report(measure(benchmark), "decoding", benchmark.output, earlier)


if __name__ == "__main__":
    main()
