"""Results of a run: scores on the test set, and a record of everything that they depend on."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from transformer_jax.config import Config, DataConfig
from transformer_jax.data.sources import Pair, open_pairs
from transformer_jax.decoding.confidence import Confidence
from transformer_jax.decoding.translator import Translator
from transformer_jax.evaluation import HYPOTHESES_FILE, REFERENCES_FILE, SOURCES_FILE, Score, score
from transformer_jax.storage import atomic
from transformer_jax.storage.checkpoints import Progress, best_step, load_params
from transformer_jax.storage.lines import write_lines
from transformer_jax.terminal import command_with_text, show
from transformer_jax.training.choice import deciding_metric
from transformer_jax.training.corpus import Corpus, recount_overlap
from transformer_jax.training.environment import describe_environment
from transformer_jax.training.journal import read_metrics, read_validations

OUTCOME = ("scores", "two_sentence_scores", "best_step", "validations", "decoding")
"""Fields of results.json that differ if a run was continued, or scored with a different outcome."""


def finish_run(
    config: Config, workdir: Path, corpus: Corpus, progress: Progress, recipe: str | None, translate_command: str
) -> None:
    """Score the test set with the best checkpoint, write results.json, and print scores and five translations.

    Earlier results remain in the field "history" of results.json, and the texts of the test set are also written.
    The model's confidence on the first validation pairs is also saved, for warnings about translations.
    If the test set is the phrasebook, lines of two of its sentences are also scored.

    recipe, translate_command: see ``training.loop.fit``.
    """
    began = time.monotonic() - progress.seconds
    step = best_step(workdir / "checkpoints")
    logging.info(f"scoring {len(corpus.test)} test pairs with step {step}")
    params = load_params(workdir / "checkpoints", step)
    data = config.data
    translator = Translator(config, corpus.tokenizers, params, corpus.statistics)
    translations, scores = translate_and_score(translator, corpus.test, data.target)
    two_sentence_scores = score_two_sentences(translator, data)
    overlap = corpus.overlap or recount_overlap(corpus.test, data)
    if jax.process_index():
        return
    measure_confidence(translator, corpus.valid[: config.training.valid_sentences], step).save(workdir)
    results = {
        "recipe": recipe,
        "config": dataclasses.asdict(config),
        "scores": as_values(scores),
        "two_sentence_scores": two_sentence_scores and as_values(two_sentence_scores),
        "test": data.test,
        "overlap": overlap and overlap._asdict(),
        "training_pairs": len(corpus.train),
        "decoding": dataclasses.asdict(config.decoding),
        **describe_training(workdir, progress, step),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "seed": config.training.seed,
        "wall_seconds": round(time.monotonic() - began, 1),
        **describe_environment(),
    }
    results["history"] = earlier_results(workdir, results)
    write_lines(workdir / SOURCES_FILE, [pair.source for pair in corpus.test])
    write_lines(workdir / REFERENCES_FILE, [pair.target for pair in corpus.test])
    write_lines(workdir / HYPOTHESES_FILE, translations)
    atomic.write_text(workdir / "results.json", json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    for pair, translation in list(zip(corpus.test, translations, strict=True))[:5]:
        show(f"\nsource       {pair.source}\nreference    {pair.target}\ntranslation  {translation}")
    show("".join(f"\n{metric.value:.2f}  {metric.signature}" for metric in scores.values()))
    if overlap and overlap.sources:
        show(f"\n{overlap}")
    if two_sentence_scores:
        show(f"\nLines of two sentences: {format_scores(two_sentence_scores)}.", end="")
    show(f"\nTest set: {format_scores(scores)}. Saved in {workdir}. Try:")
    print(command_with_text(translate_command, corpus.test[0].source, "--workdir", workdir, "--attention", "out/"))


def as_values(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Return scores as JSON values."""
    return {name: score._asdict() for name, score in scores.items()}


def describe_training(workdir: Path, progress: Progress, step: int) -> dict[str, Any]:
    """Return validations, speed and choice of the checkpoint, as JSON values.

    step: step of the checkpoint that was scored.
    """
    validations = read_validations(workdir)
    speeds = [line["tokens_per_second"] for line in read_metrics(workdir) if line["phase"] == "train"]
    return {
        "best_step": step,
        # The best checkpoint may be damaged. Then the newest was not chosen by a score.
        "chosen_by": deciding_metric(progress, validations) if step == progress.best_step else None,
        "validations": [validation._asdict() for validation in validations],
        "target_tokens_per_second": round(float(np.median(speeds)), 1) if speeds else None,
    }


def earlier_results(workdir: Path, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the earlier results of a run, oldest first, without the last ones if the new ones have the same outcome.

    If results.json is damaged, rename it, with a warning.

    results: the new results.
    """
    path = workdir / "results.json"
    if not path.exists():
        return []
    try:
        last = json.loads(path.read_text(encoding="utf-8"))
        history = last.pop("history", [])
        if not isinstance(history, list):
            raise TypeError("the history is not a list")
        # Compared as text, since a loss may be NaN, which does not equal itself.
        outcomes = [json.dumps([record.get(name) for name in OUTCOME], sort_keys=True) for record in (last, results)]
        return history if outcomes[0] == outcomes[1] else [*history, last]
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        damaged = atomic.set_aside(path)
        logging.warning(f"{path} is damaged ({type(error).__name__}). It was renamed to {damaged.name}.")
        return []


def measure_confidence(translator: Translator, pairs: Sequence[Pair], step: int) -> Confidence:
    """Translate the sources of the pairs, and return the distribution of the mean log-probabilities per token."""
    translations = translator.translate([pair.source for pair in pairs])
    means = [sentence.mean_log_probability for best in translations for sentence in best.sentences]
    return Confidence.measure(step, [mean for mean in means if mean is not None])


def translate_and_score(
    translator: Translator, pairs: Sequence[Pair], language: str
) -> tuple[list[str], dict[str, Score]]:
    """Translate the sources of the pairs, and return the translations and their scores.

    language: see ``evaluation.score``.
    """
    translations = [best.text for best in translator.translate([pair.source for pair in pairs])]
    references, tokenize = [pair.target for pair in pairs], translator.config.evaluation.tokenize
    return translations, score(translations, references, language, tokenize)


def score_two_sentences(translator: Translator, data: DataConfig) -> dict[str, Score] | None:
    """Return the scores on lines of two sentences if the test set is the phrasebook, otherwise None.

    Each line of the phrasebook itself is one sentence, so its scores do not show whether text is split correctly.
    """
    if data.test != "phrasebook":
        return None
    lines = list(open_pairs("phrasebook:two", data.source, data.target, "test"))
    return translate_and_score(translator, lines, data.target)[1]


def format_scores(scores: Mapping[str, Score]) -> str:
    """Return sacreBLEU and chrF as text."""
    return f"sacreBLEU {scores['BLEU'].value:.2f}, chrF {scores['chrF'].value:.2f}"
