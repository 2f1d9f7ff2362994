"""The ``align`` command: word alignment of sentence pairs, or the alignment error rate (AER) on gold alignments."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from transformer_jax.alignment.error_rate import GoldLinks, Links, format_links, read_gold_links, score_alignments
from transformer_jax.alignment.layer_selection import most_agreeing_rules
from transformer_jax.alignment.reading import AlignmentRule, Method, link_target_words
from transformer_jax.alignment.report import METHODS, report_tables, symmetrize_all, table_row
from transformer_jax.alignment.sentence_pairs import (
    SentencePair,
    join_links,
    needs_single_sentences,
    split_gold_links,
    split_pairs,
    warn_of_unequal_counts,
)
from transformer_jax.alignment.symmetrization import Symmetrization
from transformer_jax.attention.layer_view import index_range
from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.commands.newest_run import find_run
from transformer_jax.commands.streams import BLOCK_LINES, check_output_path, open_output, split_into_blocks
from transformer_jax.data.languages import find_language
from transformer_jax.data.sentences import SplitSentences
from transformer_jax.data.sources import Pairs
from transformer_jax.data.text_files import open_aligned_files
from transformer_jax.errors import InputError

if TYPE_CHECKING:
    from transformer_jax.alignment.aligning_model import AligningModel
    from transformer_jax.decoding.translator import Translator

SAMPLE_PAIRS = 200
"""Number of sentence pairs for choosing the rules of two models. The weights of all heads for them are in memory."""


@dataclass(frozen=True)
class AlignCommand:
    """Align the words of sentences and their translations with the cross-attention of a model.

    Prints one line per sentence pair: i-j links source word i with target word j, both counted from 0.

    With --gold, prints the precision, recall and alignment error rate (AER) of each layer, of each head and of the best
    combination of heads instead.
    """

    source: Path | None = None
    """The sentences in the source language of the run, one per line: plain or compressed text."""
    target: Path | None = None
    """Their translations, in the same order."""
    workdir: Path | None = None
    """The run directory, or hf://OWNER/NAME, gs:// or s3://. If omitted, the newest finished run in runs/ is used."""
    reverse: Path | None = None
    """The run directory of a model for the opposite direction. --symmetrize selects how the alignments are combined."""
    gold: Path | None = None
    """Gold alignments, one line per sentence pair: i-j for a sure link, ipj for a possible link."""
    output: Path | None = None
    """The output file for the links, created when complete. If omitted, standard output."""
    method: Method | None = None
    """The decoding step whose attention links a word: the step that predicts it (plain) or that reads it (shifted).
    If omitted, plain; with --reverse, the method with the best agreement of the two directions."""
    layer: int | None = None
    """The decoder layer, counted from 0.
    If omitted, the last layer; with --reverse, the layers with the best agreement of the two directions."""
    head: int | None = None
    """The attention head, counted from 0. If omitted, the mean over all heads of the layer."""
    symmetrize: Symmetrization | None = None
    """With --reverse: the method that combines the two directions. If omitted, agreement."""
    split_sentences: SplitSentences = "auto"
    """Align the sentences of a line one by one, if its translation has the same number: always, never, or if a run was
    trained on single sentences (auto)."""
    debug: bool = False
    """Show the traceback of an error."""


def align(command: AlignCommand) -> None:
    """Align the sentence pairs and print one line of links per pair; with --gold, print error rates instead.

    Raises InputError for invalid options or input, before anything is written.
    """
    if command.source is None or command.target is None:
        raise InputError(
            "--source and --target are both required. Run: python -m transformer_jax align --source FILE --target FILE"
        )
    if command.symmetrize and not command.reverse:
        raise InputError(
            f"--symmetrize {command.symmetrize} combines two models, but --reverse is not given. "
            "Set --reverse to a run for the opposite direction."
        )
    check_output_path(command.output)
    pairs = Pairs(
        f"{command.source} and {command.target}", open_aligned_files(command.source, command.target), "refuse"
    )
    # This reads all pairs, so that an invalid line is found before anything is written.
    lengths = [(len(pair.source.split()), len(pair.target.split())) for pair in pairs]
    gold = None if command.gold is None else read_gold_links(command.gold, lengths)
    models = load_models(command)
    translators = [model.translator for model in models]
    split = partial(
        split_pairs,
        translator=translators[0],
        by_sentences=needs_single_sentences(command.split_sentences, translators),
    )
    if len(models) == 2:
        models = choose_rules(models, command, split(list(islice(pairs, SAMPLE_PAIRS))))
    if gold is not None:
        sentence_pairs = split(list(pairs))
        warn_of_unequal_counts(sentence_pairs)
        print_error_rates(command, models, sentence_pairs, gold)
        return
    with open_output(command.output) as output:
        first = 1
        for block in split_into_blocks(pairs, BLOCK_LINES):
            sentence_pairs = split(block, first=first)
            warn_of_unequal_counts(sentence_pairs)
            links = combine_links([model.weights(sentence_pairs) for model in models], command.symmetrize)
            print(*map(format_links, join_links(sentence_pairs, links)), sep="\n", file=output)
            first += len(block)


def print_error_rates(
    command: AlignCommand, models: Sequence[AligningModel], pairs: Sequence[SentencePair], gold: Sequence[GoldLinks]
) -> None:
    """Print the error rates of all rules and of the selected rule, whose links are written to --output if given.

    gold: the gold links of each pair of lines.
    """
    from transformer_jax.alignment.aligning_model import collect_attention

    sentence_gold = split_gold_links(pairs, gold)
    sides = [collect_attention(model, pairs) for model in models]
    for line in report_tables(sides, sentence_gold):
        print(line)
    links = combine_links(
        [side.weights(model.rule) for side, model in zip(sides, models, strict=True)], command.symmetrize
    )
    print(table_row("with these options", [score_alignments(links, sentence_gold)]))
    if command.output is not None:
        with open_output(command.output) as output:
            print(*map(format_links, join_links(pairs, links)), sep="\n", file=output)


def combine_links(
    weights: Sequence[Sequence[Float[np.ndarray, "_ _"]]], symmetrization: Symmetrization | None
) -> list[Links]:
    """Return the links of each sentence pair: those of one model, or the symmetrized links of two models.

    weights: for each model, the word weights of each pair (axes: source word, target word).
    symmetrization: the method that combines two alignments. Default: agreement.
    """
    if len(weights) == 1:
        return list(map(link_target_words, weights[0]))
    return symmetrize_all(symmetrization or "agreement", *weights)


def load_models(command: AlignCommand) -> list[AligningModel]:
    """Load the run and, with --reverse, the run for the opposite direction.

    Raises InputError if a run directory is invalid, if a run does not have the layer or head that --layer or --head
    selects, or if the two runs do not translate in opposite directions.
    """
    from transformer_jax.alignment.aligning_model import AligningModel
    from transformer_jax.decoding.translator import Translator

    runs = [command.workdir, *([command.reverse] if command.reverse else [])]
    models: list[AligningModel] = []
    for run in runs:
        workdir = find_run(run, "aligning")
        translator = Translator.load(workdir)
        rule = candidate_rules(command, workdir, translator)[-1]
        models.append(AligningModel(workdir, translator, rule, is_reverse=bool(models)))
    languages = [(model.translator.config.data.source, model.translator.config.data.target) for model in models]
    codes = [tuple(find_language(language).code for language in direction) for direction in languages]
    if codes[-1][::-1] != codes[0] and len(models) == 2:
        (source, target), (reverse_source, reverse_target) = languages
        raise InputError(
            f"--reverse {models[1].workdir} translates from {reverse_source} to {reverse_target}, but must translate "
            f"in the opposite direction of {models[0].workdir} ({source} to {target}). "
            f"Set --reverse to a run that translates from {target} to {source}."
        )
    return models


def candidate_rules(command: AlignCommand, workdir: Path, translator: Translator) -> list[AlignmentRule]:
    """Return the rules that --method, --layer and --head allow, with the default rule last.

    Raises InputError for a layer or head that the model does not have.
    """
    config = translator.model.config
    for option, name, number, count in (
        ("--layer", "decoder layer", command.layer, config.decoder_layers),
        ("--head", "head", command.head, config.heads),
    ):
        if number is not None and not 0 <= number < count:
            raise InputError(f"{workdir} has no {name} {number}. Set {option} to {index_range(count)}.")
    methods = METHODS[::-1] if command.method is None else [command.method]
    layers = range(config.decoder_layers) if command.layer is None else [command.layer]
    heads = range(config.heads) if command.head is None else [command.head]
    return [AlignmentRule(method, tuple((layer, head) for head in heads)) for method in methods for layer in layers]


def choose_rules(
    models: list[AligningModel], command: AlignCommand, sample: Sequence[SentencePair]
) -> list[AligningModel]:
    """Return the two models with the rules that agree most on a sample."""
    from transformer_jax.alignment.aligning_model import collect_attention

    forward, reverse = (collect_attention(model, sample) for model in models)
    candidates = [candidate_rules(command, model.workdir, model.translator) for model in models]
    rules = most_agreeing_rules((forward, reverse), (candidates[0], candidates[1]))
    for model, rule in zip(models, rules, strict=True):
        logging.info(f"{model.name}: {rule.method}, layer {rule.heads[0][0]}")
    return [model._replace(rule=rule) for model, rule in zip(models, rules, strict=True)]


def main(arguments: list[str]) -> None:
    """Parse the arguments and call ``align``."""
    align(parse_arguments(AlignCommand(), arguments, command_prefix("align")))
