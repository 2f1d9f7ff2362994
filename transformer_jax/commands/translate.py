"""The command line of translation: lines of raw text in, one line out for each, in order."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import tyro

from transformer_jax.commands.cli import call_of, parse
from transformer_jax.commands.newest_run import newest_run
from transformer_jax.commands.streams import (
    BLOCK_LINES,
    check_destination,
    decode_lines,
    destination,
    line_blocks,
    written,
)
from transformer_jax.data.sources import read_lines
from transformer_jax.errors import InputError
from transformer_jax.runtime.keyboard_interrupt import redeliver_interrupts

if TYPE_CHECKING:
    from transformer_jax.attention.explorer import Page
    from transformer_jax.attention.weights import Attention
    from transformer_jax.decoding.search import Sampling
    from transformer_jax.decoding.translator import Translation, Translator


@dataclass(frozen=True)
class TranslateCommand:
    """Translate raw text with a model that train.py has trained."""

    text: tyro.conf.Positional[tuple[str, ...]] = ()
    """What to translate; without it, and without --input, what comes through a pipe or is typed."""
    workdir: Path | None = None
    """The run folder; the newest finished run under runs/ unless given."""
    input: Path | None = None
    """A file to translate, plain, .gz or .xz, one text a line."""
    output: Path | None = None
    """Where to write; it appears when it is whole."""
    reference: Path | None = None
    """Reference translations, a file like that of --input: prints sacreBLEU and chrF with their signatures to standard
    error.
    """
    beam: int | None = None
    """Hypotheses kept a sentence, 1 for greedy; the run's own setting unless given."""
    length_penalty: float | None = None
    """Alpha of Wu et al. 2016; the run's own setting unless given."""
    n_best: int = 1
    """Translations to print for each text, each as: number of the line, tab, score, tab, translation."""
    sample: bool = False
    """Draw translations at random instead of searching for the best."""
    temperature: float | None = None
    """With --sample: below 1 is more cautious, above 1 more daring; 1 unless given."""
    top_k: int | None = None
    """With --sample: draw from this many most likely tokens; from all unless given, or 0."""
    seed: int | None = None
    """With --sample: another seed, other draws; 0 unless given."""
    jsonl: bool = False
    """Print one JSON object for each translation: line, text, score, tokens, and alignment (for each token, the
    number of the source token with the most cross-attention)."""
    attention: Path | None = None
    """A folder for every head's weights of each best translation: index.html to explore them, and N.npz and heat maps,
    N the number of the line."""
    alignments: Path | None = None
    """Where to write which words of each text and of its best translation belong together, as align does: i-j for each
    link, one line a text; the file appears when it is whole."""
    debug: bool = False
    """Show the traceback of an error."""


def translate(command: TranslateCommand) -> None:
    """Do what the command line says. Raises InputError for wrong use or bad input, before anything is written."""
    check(command)
    references = (
        None if command.reference is None else list(decode_lines(read_lines(command.reference), str(command.reference)))
    )
    lines, size = texts(command), 1 if is_typed(command) else BLOCK_LINES
    first = next(lines, None)
    if first is None:
        raise InputError("there is no text to translate. Give it as an argument, with --input FILE, or through a pipe.")
    if references is not None:
        first, *rest = every = [first, *lines]
        lines = iter(rest)
        if len(every) != len(references):
            raise InputError(
                f"{command.reference} has {len(references)} lines for {len(every)} texts. Give one for each."
            )
        if not any(line.strip() for line in references):
            raise InputError(f"{command.reference} is blank. Give the translations to compare with.")

    from transformer_jax.decoding.translator import Translator

    workdir = command.workdir or newest_run()
    translator = Translator.load(workdir)
    best: list[str] = []
    with contextlib.ExitStack() as files:
        files.enter_context(redeliver_interrupts())
        out = files.enter_context(destination(command.output))
        aligned = None
        if command.alignments is not None:
            aligned = files.enter_context(destination(command.alignments, "--alignments"))
        page = None
        if command.attention is not None:
            page = files.enter_context(explorer(command.attention, workdir, translator.step))
        number = 1
        for block in line_blocks(itertools.chain([first], lines), size):
            translations = translator.translate_n_best(
                block, command.n_best, command.beam, command.length_penalty, sampling(command), first=number
            )
            for found in translations:
                best_attention = attention_of(translator, found[0]) if page or command.jsonl else None
                if page and command.attention:
                    show_attention(command.attention, page, number, found[0], best_attention)
                with written(command.output, "--output"):
                    show(command, translator, out, number, found, best_attention)
                if references is not None:
                    best.append(found[0].text)
                number += 1
            if aligned is not None:
                with written(command.alignments, "--alignments"):
                    write_links(aligned, translator, block, [found[0] for found in translations])
            with written(command.output, "--output"):
                out.flush()
    if references is not None:
        from transformer_jax.evaluation import score

        for name, value in score(best, references, translator.config.data.target).items():
            print(f"{name} {value.value:.2f}  {value.signature}", file=sys.stderr)


def check(command: TranslateCommand) -> None:
    """Refuse combinations that make no sense, and files that are not there."""
    if command.text and command.input:
        raise InputError("both TEXT and --input are given. Choose one.")
    for path in (command.input, command.reference):
        if path is not None and (not path.exists() or path.is_dir()):  # It may be a pipe: <(command).
            raise InputError(f"{path} is not a file. Check the path.")
    check_destination(command.output)
    check_destination(command.alignments, "--alignments")
    if command.output and command.alignments and command.output.resolve() == command.alignments.resolve():
        raise InputError(f"{command.output} is both --output and --alignments. Name two files.")
    if command.attention is not None and command.attention.exists() and not command.attention.is_dir():
        raise InputError(f"{command.attention} is not a folder. Name another --attention.")
    sampling(command)


def sampling(command: TranslateCommand) -> Sampling | None:
    """How to draw, if at all. Raises InputError for settings that cannot be drawn from, or are of the other way."""
    other = ("beam", "length_penalty") if command.sample else ("temperature", "top_k", "seed")
    for name in other:
        if getattr(command, name) is not None:
            option, where = f"--{name.replace('_', '-')}", "with" if command.sample else "without"
            raise InputError(f"{option} means nothing {where} --sample. Leave {option} out.")
    if not command.sample:
        return None
    from transformer_jax.decoding.search import Sampling

    temperature = 1.0 if command.temperature is None else command.temperature
    return Sampling(temperature, command.top_k or 0, command.seed or 0)


def texts(command: TranslateCommand) -> Iterator[str]:
    """The lines to translate, from wherever they come."""
    if command.text:
        return itertools.chain.from_iterable(text.split("\n") for text in command.text)
    if command.input:
        return decode_lines(read_lines(command.input), str(command.input))
    if is_typed(command):
        return typed()
    return iter(()) if sys.stdin is None else decode_lines(sys.stdin.buffer, "standard input")


def is_typed(command: TranslateCommand) -> bool:
    """Whether somebody types the texts at a terminal, and waits for each translation."""
    return not command.text and command.input is None and sys.stdin is not None and sys.stdin.isatty()


def typed() -> Iterator[str]:
    """Ask for text until the end of input (Ctrl-D)."""

    def lines() -> Iterator[bytes]:
        while True:
            print("> ", end="", file=sys.stderr, flush=True)
            line = sys.stdin.buffer.readline()
            if not line:
                return
            yield line

    return decode_lines(lines(), "the terminal")


@contextlib.contextmanager
def explorer(folder: Path, workdir: Path, step: int | None) -> Iterator[Page]:
    """The page of all sentences, which appears when it is whole; with what each head is worth, if the run knows it.

    step: that of the model; what heads of an earlier one were worth is not shown.
    """
    from transformer_jax.attention import head_importance
    from transformer_jax.attention.explorer import open_page

    known, path = workdir / head_importance.NAME, folder / "index.html"
    worth = head_importance.Ablation.load(known) if known.exists() else None
    if worth is not None and worth.step != step:
        logging.warning(
            f"{known} is of update {worth.step}, the model of update {step}: it is not shown. "
            "Make it again with python -m transformer_jax ablate."
        )
        worth = None
    with open_page(path, worth) as page:
        yield page
    if page.left_out:
        logging.warning(f"{path}: {page.left_out}")
    if page.is_empty and path.exists():
        logging.warning(f"{path} is an earlier one: no line has attention.")


def attention_of(translator: Translator, translation: Translation) -> Attention | None:
    """Its weights; None for a text that was translated in parts or not at all."""
    return translator.attention(translation.source, translation) if translation.has_attention else None


def show_attention(
    folder: Path, page: Page, number: int, translation: Translation, attention: Attention | None
) -> None:
    """Write the attention of one text: weights, pictures and its part of the page."""
    if attention is None:
        logging.warning(f"line {number} has no letters or was translated in parts: no attention is written for it.")
        return
    from transformer_jax.attention.heat_maps import save_pictures

    if not translation.text.strip():
        logging.warning(f"line {number} has an empty translation: its attention is that of ending at once.")
    attention.save(folder / f"{number}.npz")
    save_pictures(attention, folder, str(number))
    page.add(number, attention)


def show(
    command: TranslateCommand,
    translator: Translator,
    out: TextIO,
    number: int,
    found: list[Translation],
    best_attention: Attention | None,
) -> None:
    """Write the translations of one text; best_attention: that of the first of them, for JSON lines."""
    for rank, translation in enumerate(found):
        if command.jsonl:
            attention = best_attention if rank == 0 else attention_of(translator, translation)
            shown = json.dumps(_as_json(number, translation, attention), ensure_ascii=False)
            # Written as escapes, where JSON allows it, the text keeps what could be taken for the end of a line.
            print(LINE_ENDS.sub(lambda end: f"\\u{ord(end[0]):04x}", shown), file=out)
        elif command.n_best > 1:
            print(number, f"{translation.score:.4f}", one_line(translation.text), sep="\t", file=out)
        else:
            print(one_line(translation.text), file=out)


def write_links(out: TextIO, translator: Translator, texts: list[str], translations: list[Translation]) -> None:
    """Write the alignment of each text and its translation."""
    from transformer_jax.alignment.error_rate import format_links
    from transformer_jax.alignment.word_links import word_links

    for links in word_links(translator, texts, translations):
        print(format_links(links), file=out)


def _as_json(number: int, translation: Translation, attention: Attention | None) -> dict[str, object]:
    from transformer_jax.alignment.reading import strongest_source_tokens

    return {
        "line": number,
        "text": translation.text,
        "score": translation.score,
        "tokens": translation.tokens,
        "alignment": None if attention is None else strongest_source_tokens(attention),
    }


LINE_ENDS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""Whatever a program may take for the end of a line."""


def one_line(text: str) -> str:
    """A model may produce a line break; the lines of the output must still match those of the input, whoever reads
    them.
    """
    return LINE_ENDS.sub(" ", text)


def main(arguments: list[str]) -> None:
    """Translate arguments, a file, a pipe, or what is typed."""
    translate(parse(TranslateCommand(), arguments, call_of("translate")))
