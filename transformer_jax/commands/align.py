"""The command that aligns words: sentence pairs in, the links of each out, or how good every way to find them is."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from transformer_jax.alignment.error_rate import GoldLinks, Links, format_links, read_gold_links, score_alignments
from transformer_jax.alignment.layer_selection import most_agreeing_rules
from transformer_jax.alignment.reading import AlignmentRule, Method, link_target_words
from transformer_jax.alignment.report import METHODS, report_tables, symmetrize_all, table_row
from transformer_jax.alignment.symmetrization import Symmetrization
from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.commands.newest_run import newest_run
from transformer_jax.commands.streams import BLOCK_LINES, check_output_path, open_output, split_into_blocks
from transformer_jax.data.sources import Pair, Pairs
from transformer_jax.data.text_files import open_aligned_files
from transformer_jax.errors import InputError

if TYPE_CHECKING:
    from transformer_jax.alignment.aligning_model import AligningModel
    from transformer_jax.decoding.translator import Translator

SAMPLE = 200
"""Pairs by which the readings of two models are chosen: they are in memory with the weights of all heads."""


@dataclass(frozen=True)
class AlignCommand:
    """Find which source word each word of given translations came from, by a model's cross-attention.

    Prints one line for each sentence pair, i-j for each link, words counted from 0. With --gold: precision, recall and
    Alignment Error Rate of each layer, of each head, and of the best combination.
    """

    source: Path | None = None
    """The sentences, one a line (plain, .gz or .xz), in the language that the run translates from."""
    target: Path | None = None
    """Their translations, line for line."""
    workdir: Path | None = None
    """The run folder; the newest finished run under runs/ unless given."""
    reverse: Path | None = None
    """The run folder of a model that translates the other way: both are read, and put together by --symmetrize."""
    gold: Path | None = None
    """Alignments made by hand, line for line: i-j for a sure link, ipj for a possible one."""
    output: Path | None = None
    """Where to write the links; it appears when it is whole."""
    method: Method | None = None
    """Read a word off the step that predicts it (plain), or that has just read it (shifted: Chen et al. 2020). Unless
    given: plain, or with --reverse that by which the two directions agree most.
    """
    layer: int | None = None
    """The decoder layer to read, from 0. Unless given: the last, or with --reverse that by which the two directions
    agree most.
    """
    head: int | None = None
    """The head to read, from 0; the average of the layer's heads unless given."""
    symmetrize: Symmetrization | None = None
    """With --reverse: how the two directions are put together; by agreement unless given."""
    debug: bool = False
    """Show the traceback of an error."""


def align(command: AlignCommand) -> None:
    """Do what the command line says. Raises InputError for wrong use or bad input, before anything is written."""
    if command.source is None or command.target is None:
        raise InputError("there are no sentence pairs. Give two files of lines with --source and --target.")
    if command.symmetrize and not command.reverse:
        raise InputError(
            f"--symmetrize {command.symmetrize} needs two directions. Give the run that translates the other way as "
            "--reverse."
        )
    check_output_path(command.output)
    pairs = Pairs(
        f"{command.source} and {command.target}", open_aligned_files(command.source, command.target), "refuse"
    )
    # Reads all of it, so that a bad line is found before anything is written.
    lengths = [(len(pair.source.split()), len(pair.target.split())) for pair in pairs]
    gold = None if command.gold is None else read_gold_links(command.gold, lengths)
    models = chosen(load_models(command), command, pairs)
    if gold is not None:
        print_error_rates(command, models, list(pairs), gold)
        return
    with open_output(command.output) as out:
        first = 1
        for block in split_into_blocks(pairs, BLOCK_LINES):
            found = [model.weights(block, first) for model in models]
            print(*map(format_links, combined(found, command.symmetrize or "agreement")), sep="\n", file=out)
            first += len(block)


def print_error_rates(
    command: AlignCommand, models: Sequence[AligningModel], pairs: Sequence[Pair], gold: Sequence[GoldLinks]
) -> None:
    """Print how good each way to find links is, and that of the command; write its links, too, if --output is given."""
    from transformer_jax.alignment.aligning_model import collect_attention

    sides = [collect_attention(model, pairs) for model in models]
    for line in report_tables(sides, gold):
        print(line)
    found = [side.weights(model.rule) for side, model in zip(sides, models, strict=True)]
    links = combined(found, command.symmetrize or "agreement")
    print(table_row("with these options", [score_alignments(links, gold)]))
    if command.output is not None:
        with open_output(command.output) as out:
            print(*map(format_links, links), sep="\n", file=out)


def combined(found: Sequence[Sequence[Float[np.ndarray, "_ _"]]], how: Symmetrization) -> list[Links]:
    """The links of each pair: those of the only model, or of two put together."""
    return list(map(link_target_words, found[0])) if len(found) == 1 else symmetrize_all(how, *found)


def load_models(command: AlignCommand) -> list[AligningModel]:
    """The run, and the one that translates the other way if there is one.

    Raises InputError for what is no run, a layer or a head that a run does not have, and two runs that do not translate
    the same languages both ways.
    """
    from transformer_jax.alignment.aligning_model import AligningModel
    from transformer_jax.decoding.translator import Translator

    folders = [command.workdir or newest_run(activity="aligning"), *([command.reverse] if command.reverse else [])]
    models: list[AligningModel] = []
    for folder in folders:
        translator = Translator.load(folder)
        models.append(
            AligningModel(folder, translator, candidate_rules(command, folder, translator)[-1], is_reverse=bool(models))
        )
    languages = [(model.translator.config.data.source, model.translator.config.data.target) for model in models]
    if languages[-1][::-1] != languages[0] and len(models) == 2:
        raise InputError(
            f"{models[1].name}, is not the way back of {models[0].name}. Give a run that translates from "
            f"{languages[0][1]} to {languages[0][0]} as --reverse."
        )
    return models


def candidate_rules(command: AlignCommand, folder: Path, translator: Translator) -> list[AlignmentRule]:
    """Those that --method, --layer and --head leave open, the default last.

    Raises InputError for a layer or a head that is not there.
    """
    config = translator.model.config
    for name, one, count in (
        ("decoder layer", command.layer, config.decoder_layers),
        ("head", command.head, config.heads),
    ):
        if one is not None and not 0 <= one < count:
            raise InputError(f"{folder} has no {name} {one}. Choose from 0 to {count - 1}.")
    methods = METHODS[::-1] if command.method is None else [command.method]
    layers = range(config.decoder_layers) if command.layer is None else [command.layer]
    heads = range(config.heads) if command.head is None else [command.head]
    return [AlignmentRule(method, tuple((layer, head) for head in heads)) for method in methods for layer in layers]


def chosen(models: list[AligningModel], command: AlignCommand, pairs: Iterable[Pair]) -> list[AligningModel]:
    """Two models with the readings by which they agree most on the first pairs; one as it is."""
    from transformer_jax.alignment.aligning_model import collect_attention

    if len(models) == 1:
        return models
    sample = list(islice(pairs, SAMPLE))
    forward, reverse = (collect_attention(model, sample) for model in models)
    candidates = [candidate_rules(command, model.workdir, model.translator) for model in models]
    found = most_agreeing_rules((forward, reverse), (candidates[0], candidates[1]))
    for model, rule in zip(models, found, strict=True):
        logging.info(f"{model.name}: {rule.method}, layer {rule.heads[0][0]}")
    return [model._replace(rule=rule) for model, rule in zip(models, found, strict=True)]


def main(arguments: list[str]) -> None:
    """Align as the arguments say."""
    align(parse_arguments(AlignCommand(), arguments, command_prefix("align")))
