"""The outputs of ``translate``: lines of text or JSON, attention files, word alignments and scores."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from transformer_jax.commands.cli import command_prefix
from transformer_jax.commands.streams import open_output, output_errors
from transformer_jax.storage.lines import LINE_BREAKS, replace_line_breaks
from transformer_jax.terminal import quote_command, show

if TYPE_CHECKING:
    from transformer_jax.attention.explorer import PageWriter
    from transformer_jax.attention.weights import Attention
    from transformer_jax.commands.translate import TranslateCommand
    from transformer_jax.config import Config
    from transformer_jax.decoding.translation import Translation
    from transformer_jax.decoding.translator import Translator


class TranslationWriter(NamedTuple):
    """The open outputs of a ``translate`` command.

    command: the options.
    translator: the model, which also computes attention and word alignments.
    output: the file or stream of the translations.
    alignments: the file of the word alignments, if requested.
    page: the attention page, if requested.
    """

    command: TranslateCommand
    translator: Translator
    output: TextIO
    alignments: TextIO | None
    page: PageWriter | None

    def write_block(self, first: int, texts: list[str], n_best_lists: Sequence[list[Translation]]) -> None:
        """Write the translations of consecutive texts, then their word alignments.

        first: the line number of the first text.
        n_best_lists: the translations of each text, best first.
        """
        for number, translations in enumerate(n_best_lists, start=first):
            best = translations[0]
            attention = compute_attention(self.translator, best) if self.page or self.command.jsonl else []
            if self.page and self.command.attention:
                write_attention(self.command.attention, self.page, number, best, attention)
            with output_errors(self.command.output, "--output"):
                self._write_lines(number, translations, attention)
        if self.alignments is not None:
            with output_errors(self.command.alignments, "--alignments"):
                best_translations = [translations[0] for translations in n_best_lists]
                write_alignments(self.alignments, self.translator, texts, best_translations)
        with output_errors(self.command.output, "--output"):
            self.output.flush()

    def _write_lines(self, number: int, translations: list[Translation], best_attention: list[Attention]) -> None:
        """Write the translations of one text. ``best_attention`` is that of the first translation's sentences."""
        for rank, translation in enumerate(translations):
            if self.command.jsonl:
                attention = best_attention if rank == 0 else compute_attention(self.translator, translation)
                line = json.dumps(_json_record(number, translation, attention), ensure_ascii=False)
                # Escapes keep these characters in the text without ending the line.
                line = LINE_BREAKS.sub(lambda match: f"\\u{ord(match[0]):04x}", line)
            elif self.command.n_best > 1:
                line = f"{number}\t{translation.score:.4f}\t{replace_line_breaks(translation.text)}"
            else:
                line = replace_line_breaks(translation.text)
            show(line, self.output)


@contextlib.contextmanager
def open_writer(command: TranslateCommand, translator: Translator, workdir: Path) -> Iterator[TranslationWriter]:
    """Open the outputs of the command. Each file is renamed to its final name when it is complete."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(open_output(command.output))
        alignments, page = None, None
        if command.alignments is not None:
            alignments = stack.enter_context(open_output(command.alignments, "--alignments"))
        if command.attention is not None:
            page = stack.enter_context(open_attention_page(command.attention, workdir, translator.step))
        yield TranslationWriter(command, translator, output, alignments, page)


@contextlib.contextmanager
def open_attention_page(directory: Path, workdir: Path, step: int | None) -> Iterator[PageWriter]:
    """Open index.html, which shows the attention of all sentences and, if available, the importance of each head.

    step: the training step of the model. The head importance of another step is not shown, and a warning is logged.
    """
    from transformer_jax.attention import head_importance
    from transformer_jax.attention.explorer import open_page

    importance_path, page_path = workdir / head_importance.HEAD_IMPORTANCE_FILE, directory / "index.html"
    importance = head_importance.HeadImportance.load(importance_path) if importance_path.exists() else None
    if importance is not None and importance.step != step:
        update = f"{command_prefix('ablate')} {quote_command('--workdir', workdir)} --input FILE --reference FILE"
        logging.warning(
            f"{importance_path} is from step {importance.step}, but the model is from step {step}. Head importance is "
            f"not shown. To update it, run: {update}"
        )
        importance = None
    with open_page(page_path, importance) as page:
        yield page
    if page.left_out:
        logging.warning(f"{page_path}: {page.left_out}")
    if page.is_empty and page_path.exists():
        logging.warning(
            f"no line of this text has attention, so {page_path} is unchanged and shows the text of an earlier command."
        )


def compute_attention(translator: Translator, translation: Translation) -> list[Attention]:
    """Return the attention weights of each sentence of a translation; none if the text was copied unchanged."""
    return [translator.attention(sentence.source, sentence) for sentence in translation.sentences]


def write_attention(
    directory: Path, page: PageWriter, number: int, translation: Translation, attention: list[Attention]
) -> None:
    """Write the attention of line ``number``: its weights, its heat maps and its part of the page.

    The files are called after the line, and after the sentence if the line has several: 3.2.npz.
    """
    if not attention:
        logging.warning(f"line {number} was copied unchanged, so no attention is written for it.")
        return
    from transformer_jax.attention.heat_maps import save_pictures

    for index, (sentence, weights) in enumerate(zip(translation.sentences, attention, strict=True), start=1):
        name = f"{number}.{index}" if translation.parts else number
        if not sentence.text.strip():
            logging.warning(f"line {name} has an empty translation. Only the attention of [EOS] is written.")
        weights.save(directory / f"{name}.npz")
        save_pictures(weights, directory, str(name))
        page.add(name, weights)


def write_alignments(
    output: TextIO, translator: Translator, texts: list[str], translations: Sequence[Translation]
) -> None:
    """Write one line per text: the links between its words and those of its translation."""
    from transformer_jax.alignment.error_rate import format_links
    from transformer_jax.alignment.word_links import word_links

    for links in word_links(translator, texts, translations):
        print(format_links(links), file=output)


def report_warnings(first: int, translations: Sequence[Translation]) -> None:
    """Log one line per kind of warning, with the number of the first line that it concerns and its message.

    first: the line number of the first translation.
    """
    lines: dict[str, list[tuple[int, str]]] = {}
    for number, translation in enumerate(translations, start=first):
        for code, message in translation.warnings:
            lines.setdefault(code, []).append((number, message))
    for (number, message), *others in lines.values():
        more = f" and {len(others)} other line{'s' if len(others) > 1 else ''}" if others else ""
        logging.warning(f"line {number}{more}: {message}")


def print_scores(translations: Sequence[str], references: Sequence[str], config: Config) -> None:
    """Print sacreBLEU and chrF of the translations of a run, with their signatures, to standard error."""
    from transformer_jax.evaluation import score

    scores = score(translations, references, config.data.target, config.evaluation.tokenize)
    for name, result in scores.items():
        print(f"{name} {result.value:.2f}  {result.signature}", file=sys.stderr)


def _json_record(number: int, translation: Translation, attention: list[Attention]) -> dict[str, object]:
    from transformer_jax.alignment.reading import strongest_source_tokens

    alignment: list[int] = []
    offset = 0
    for sentence in attention:  # The indices count the source tokens of all sentences.
        alignment += [offset + index for index in strongest_source_tokens(sentence)]
        offset += len(sentence.source_tokens)

    return {
        "line": number,
        "text": translation.text,
        "score": translation.score,
        "tokens": translation.tokens,
        "alignment": alignment if attention else None,
        "warnings": [warning._asdict() for warning in translation.warnings],
    }
