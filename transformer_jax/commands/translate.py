"""The ``translate`` command: one output line per input line, in order."""

from __future__ import annotations

import codecs
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.commands.newest_run import find_run
from transformer_jax.commands.streams import (
    BLOCK_LINES,
    TERMINAL_LINE_BYTES,
    argument_bytes,
    check_output_path,
    decode_lines,
    split_into_blocks,
)
from transformer_jax.data.sentences import SplitSentences
from transformer_jax.data.text_files import read_lines, read_stream_lines
from transformer_jax.errors import InputError
from transformer_jax.runtime.keyboard_interrupt import redeliver_interrupts

if TYPE_CHECKING:
    from transformer_jax.decoding.search import Sampling


@dataclass(frozen=True)
class TranslateCommand:
    """Translate text with a trained model."""

    text: tyro.conf.Positional[tuple[str, ...]] = ()
    """The text to translate. If omitted, it is read from --input, a pipe or the terminal."""
    workdir: Path | None = None
    """The run directory, or hf://OWNER/NAME, gs:// or s3://. If omitted, the newest finished run in runs/ is used."""
    input: Path | None = None
    """A file to translate, one text per line: plain or compressed text."""
    output: Path | None = None
    """The output file, created when complete. If omitted, standard output."""
    reference: Path | None = None
    """A file of reference translations, one per text. Prints sacreBLEU and chrF to standard error."""
    beam: int | None = None
    """Beam size; 1 is greedy search. If omitted, the beam size of the run."""
    length_penalty: float | None = None
    """Alpha of the length penalty (Wu et al. 2016). If omitted, the length penalty of the run."""
    n_best: int = 1
    """Number of translations per text. If above 1, each output line is: line number, tab, score, tab, translation."""
    sample: bool = False
    """Draw translations at random instead of searching for the most probable translation."""
    temperature: float | None = None
    """With --sample: divisor of the logits. Below 1 favours probable tokens, above 1 adds variety. If omitted, 1."""
    top_k: int | None = None
    """With --sample: number of most probable tokens to draw from. If omitted or 0, all tokens."""
    seed: int | None = None
    """With --sample: the random seed. If omitted, 0."""
    split_sentences: SplitSentences = "auto"
    """Translate the sentences of a line one by one: always, never unless the line is too long, or if the run was
    trained on single sentences (auto)."""
    slots: int | None = None
    """Number of sentences that each CPU core or accelerator decodes together. If omitted, 64 divided by the beam size
    on a CPU and 512 divided by the beam size on an accelerator, or fewer if memory is insufficient."""
    jsonl: bool = False
    """Print one JSON object per translation: line number, text, score, tokens, alignment and warnings.
    The alignment contains, for each token, the index of the source token with the largest attention weight."""
    attention: Path | None = None
    """A directory for the attention weights of each best translation.
    The files are index.html (an interactive page) and, for each line N, N.npz and heat maps."""
    alignments: Path | None = None
    """A file for the word alignment of each text and its best translation, one line per text.
    The format is that of the align command: i-j for each link. The file is created when complete."""
    debug: bool = False
    """Show the traceback of an error."""


def translate(command: TranslateCommand) -> None:
    """Translate the texts and write the outputs that the options request.

    Raises InputError for invalid options or input, before anything is written.
    """
    check_options(command)
    references = None if command.reference is None else read_text_lines(command.reference)
    texts = read_texts(command)
    first_text = next(texts, None)
    if first_text is None:
        program = command_prefix("translate")
        raise InputError(f'no text given. Run: {program} "TEXT", or {program} --input FILE')
    texts = itertools.chain([first_text], texts)
    if command.reference is not None and references is not None:
        all_texts = list(texts)
        check_references(command.reference, references, all_texts)
        texts = iter(all_texts)

    from transformer_jax.commands.translation_writer import open_writer, print_scores, report_warnings
    from transformer_jax.decoding.translator import Translator
    from transformer_jax.evaluation import check_evaluation

    workdir = find_run(command.workdir)
    translator = Translator.load(workdir)
    if references is not None:
        check_evaluation(translator.config)  # Before a translation that may take hours.
    sampling = sampling_options(command)
    best_texts: list[str] = []
    number = 1
    with redeliver_interrupts(), open_writer(command, translator, workdir) as writer:
        for block in split_into_blocks(texts, 1 if is_interactive(command) else BLOCK_LINES):
            n_best_lists = translator.translate_n_best(
                block,
                command.n_best,
                command.beam,
                command.length_penalty,
                sampling,
                first=number,
                split_sentences=command.split_sentences,
                slots=command.slots,
            )
            report_warnings(number, [best for best, *_ in n_best_lists])
            writer.write_block(number, block, n_best_lists)
            number += len(block)
            if references is not None:
                best_texts += [translations[0].text for translations in n_best_lists]
    if references is not None:
        print_scores(best_texts, references, translator.config)


def check_options(command: TranslateCommand) -> None:
    """Raise InputError for options that conflict and for files that do not exist or cannot be written."""
    if command.text and command.input:
        raise InputError("TEXT and --input are both given. Remove one of them.")
    for path in (command.input, command.reference):
        if path is not None and (not path.exists() or path.is_dir()):  # A pipe such as <(command) is accepted.
            raise InputError(f"{path} is not a file. Check the path.")
    check_output_path(command.output)
    check_output_path(command.alignments, "--alignments")
    if command.output and command.alignments and command.output.resolve() == command.alignments.resolve():
        raise InputError(f"--output and --alignments are both {command.output}. Choose two different files.")
    if command.attention is not None and command.attention.exists() and not command.attention.is_dir():
        raise InputError(f"{command.attention} is not a directory. Choose another --attention.")
    sampling_options(command)


def check_references(path: Path, references: Sequence[str], texts: Sequence[str]) -> None:
    """Raise InputError if the references are blank or their number differs from that of the texts."""
    if len(texts) != len(references):
        raise InputError(
            f"the number of lines in {path} ({len(references)}) differs from the number of texts ({len(texts)}). "
            "Write one line per text."
        )
    if not any(line.strip() for line in references):
        raise InputError(f"{path} has only blank lines. Set --reference to a file of reference translations.")


def sampling_options(command: TranslateCommand) -> Sampling | None:
    """Return the sampling options, or None without --sample.

    Raises InputError for invalid values, search options with --sample and sampling options without --sample.
    """
    unused_options = ("beam", "length_penalty") if command.sample else ("temperature", "top_k", "seed")
    for name in unused_options:
        if getattr(command, name) is not None:
            option, condition = f"--{name.replace('_', '-')}", "with" if command.sample else "without"
            raise InputError(f"{option} has no effect {condition} --sample. Remove {option}.")
    if not command.sample:
        return None
    from transformer_jax.decoding.search import Sampling

    temperature = 1.0 if command.temperature is None else command.temperature
    return Sampling(temperature, command.top_k or 0, command.seed or 0)


def read_texts(command: TranslateCommand) -> Iterator[str]:
    """Return the lines to translate, from the arguments, --input, the terminal or a pipe."""
    if command.text:
        lines = itertools.chain.from_iterable(argument_bytes(text).split(b"\n") for text in command.text)
        return decode_lines(lines, "arguments", "typed")
    if command.input:
        return decode_lines(read_lines(command.input), str(command.input))
    if is_interactive(command):
        return prompt_for_texts()
    return (
        iter(()) if sys.stdin is None else decode_lines(read_stream_lines(sys.stdin.buffer), "standard input", "pipe")
    )


def read_text_lines(path: Path) -> list[str]:
    """Return the decoded lines of a file."""
    return list(decode_lines(read_lines(path), str(path)))


def is_interactive(command: TranslateCommand) -> bool:
    """Return whether the texts are typed at a terminal, where each text must be translated immediately."""
    return not command.text and command.input is None and sys.stdin is not None and sys.stdin.isatty()


def prompt_for_texts() -> Iterator[str]:
    """Prompt for texts and yield them, until the end of input (Ctrl-D)."""

    def prompted_lines() -> Iterator[bytes]:
        for number in itertools.count(1):
            print("> ", end="", file=sys.stderr, flush=True)
            line = sys.stdin.buffer.readline()
            if not line:
                return
            text = line.removesuffix(b"\n")
            if len(text) >= TERMINAL_LINE_BYTES:
                logging.warning(
                    f"the terminal:{number} may be incomplete: terminals discard what is typed after "
                    f"{TERMINAL_LINE_BYTES} bytes. For long text, use --input FILE."
                )
                _, complete_bytes = codecs.utf_8_decode(text, "replace", False)
                text = text[:complete_bytes]  # The cut may be within a character.
            yield text

    return decode_lines(prompted_lines(), "the terminal", "typed")


def main(arguments: list[str]) -> None:
    """Parse the arguments and call ``translate``."""
    translate(parse_arguments(TranslateCommand(), arguments, command_prefix("translate")))
