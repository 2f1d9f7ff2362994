"""The output of the command ``translate``: files, pipes, n-best lists, samples, JSON lines and scores."""

import dataclasses
import itertools
import json
import os
import re
import shutil
import sys
import threading

import pytest
from pseudo_terminal import pseudo_terminal
from translate_cases import LONG, TEXTS, load

from transformer_jax import Translator
from transformer_jax.commands import translate as translate_command
from transformer_jax.config import EvaluationConfig, load_config, save_config
from transformer_jax.decoding.translation import Translation
from transformer_jax.storage.lines import replace_line_breaks


def test_output_is_written_only_to_the_file(translate, expected, tmp_path):
    result = translate(*TEXTS, "--output", tmp_path / "out.txt")
    assert result[:3] == (0, "", "")
    assert (tmp_path / "out.txt").read_text().split("\n") == [*expected(TEXTS), ""]
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


@pytest.mark.parametrize("options", [(), ("--jsonl",), ("--n-best", "2")])
def test_translation_cannot_control_the_terminal(options, translate, monkeypatch):
    hostile = Translation("\x1b]0;title\x07 \u202ea\x9b2J", 0.0, (), (), ())
    monkeypatch.setattr(Translator, "translate_n_best", lambda self, texts, n, *_, **__: [[hostile] * n for _ in texts])
    with pseudo_terminal() as (stream, received), monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert translate(TEXTS[0], *options).status == 0
        assert "\\u001b]0;title\\u0007 \\u202ea\\u009b2J" in received()


def test_input_file_can_be_overwritten_by_its_translation(translate, expected, file):
    path = file("\n".join(TEXTS))
    assert translate("--input", path, "--output", path).status == 0
    assert path.read_text().split("\n") == [*expected(TEXTS), ""]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_failure_leaves_the_earlier_output_unchanged(error, translate, monkeypatch, file, tmp_path):
    path = file("before", "out.txt")
    calls = itertools.count()
    translate_n_best = Translator.translate_n_best

    def fail_at_the_second_call(self, *arguments, **keywords):
        if next(calls) == 1:
            raise error
        return translate_n_best(self, *arguments, **keywords)

    monkeypatch.setattr(translate_command, "BLOCK_LINES", 2)
    monkeypatch.setattr(Translator, "translate_n_best", fail_at_the_second_call)
    result = translate(*TEXTS, "--output", path)
    assert result.status == (130 if error is KeyboardInterrupt else 1)
    assert path.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_output_can_be_a_named_pipe(translate, expected, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    assert translate(*TEXTS, "--output", tmp_path / "pipe").status == 0
    reader.join(timeout=10)
    assert read == ["".join(f"{line}\n" for line in expected(TEXTS))]
    assert (tmp_path / "pipe").is_fifo()


def test_line_break_in_a_translation_becomes_a_space():
    text = "a\nb\r\nc\u2028d\x0be\x0cf\x85g\x1ch"
    assert replace_line_breaks(text) == "a b  c d e f g h"
    assert replace_line_breaks("日本 🙂\u200b\tשלום") == "日本 🙂\u200b\tשלום"


def test_closed_output_pipe_is_not_an_error(translate, monkeypatch):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed_pipe:
        monkeypatch.setattr(sys, "stdout", closed_pipe)
        result = translate(*TEXTS)
    assert result.status == 0
    assert result.err == ""


def test_n_best_lines_have_line_number_and_score(translate, tiny_run):
    lines = translate(*TEXTS, "--n-best", 3).lines
    n_best_lists = load(tiny_run).translate_n_best(TEXTS, 3)
    assert lines == [
        f"{number}\t{translation.score:.4f}\t{replace_line_breaks(translation.text)}"
        for number, translations in enumerate(n_best_lists, start=1)
        for translation in translations
    ]
    assert len(lines) == 9


def test_beam_and_length_penalty_reach_the_search(translate, tiny_run):
    lines = translate(*TEXTS, "--beam", 2, "--length-penalty", 3, "--n-best", 2).lines
    n_best_lists = load(tiny_run).translate_n_best(TEXTS, 2, 2, 3.0)
    scores = [translation.score for translations in n_best_lists for translation in translations]
    assert [line.split("\t")[1] for line in lines] == [f"{score:.4f}" for score in scores]


def test_samples_are_reproducible_with_the_same_seed(translate):
    def draw(*options):
        return translate(TEXTS[0], TEXTS[0], "--sample", *options).lines

    first = draw()
    assert first[0] != first[1]
    assert draw() == first
    assert draw("--seed", 1) != first
    assert len(draw("--n-best", 5)) == 10
    assert draw("--top-k", 1) == translate(TEXTS[0], TEXTS[0], "--beam", 1).lines


def test_jsonl_has_raw_text_and_alignment(translate, tiny_run):
    records = [json.loads(line) for line in translate(TEXTS[0], "", LONG, "--jsonl").lines]
    short, blank, long = load(tiny_run).translate([TEXTS[0], "", LONG])
    attention = load(tiny_run).attention(TEXTS[0], short)
    assert [list(record) for record in records] == [["line", "text", "score", "tokens", "alignment", "warnings"]] * 3
    assert records[0]["text"] == short.text
    assert records[0]["score"] == pytest.approx(short.score)
    assert records[0]["tokens"] == list(short.tokens)
    assert records[0]["alignment"] == attention.cross.mean((0, 1)).argmax(-1).tolist()
    assert records[0]["warnings"] == [warning._asdict() for warning in short.warnings]
    assert records[1] == {"line": 2, "text": blank.text, "score": 0, "tokens": [], "alignment": None, "warnings": []}
    assert records[2]["text"] == long.text
    parts = [load(tiny_run).attention(part.source, part) for part in long.parts]
    offsets = [0, *itertools.accumulate(len(part.source_tokens) for part in parts)]
    assert records[2]["alignment"] == [
        offset + index
        for offset, part in zip(offsets, parts, strict=False)
        for index in part.cross.mean((0, 1)).argmax(-1).tolist()
    ]


def test_jsonl_has_one_line_per_n_best_translation(translate):
    records = [json.loads(line) for line in translate(*TEXTS, "--jsonl", "--n-best", 2).lines]
    assert [record["line"] for record in records] == [1, 1, 2, 2, 3, 3]
    assert all(len(record["alignment"]) == len(record["tokens"]) for record in records)


def test_scores_are_printed_with_their_signatures(translate, file):
    plain = translate(*TEXTS)
    scored = translate(*TEXTS, "--reference", file(plain.out, "same.txt"))
    assert scored.out == plain.out
    bleu, chrf = scored.err.splitlines()
    assert re.fullmatch(r"BLEU \d+\.\d\d  nrefs:1\|case:mixed\|eff:no\|tok:13a\|smooth:exp\|version:\S+", bleu)
    assert re.fullmatch(r"chrF 100\.00  nrefs:1\|case:mixed\|eff:yes\|nc:6\|nw:0\|space:no\|version:\S+", chrf)
    other = translate(*TEXTS, "--reference", file("x\ny\nz\n", "other.txt"))
    assert "chrF 0." in other.err


def test_piped_text_is_scored(translate, file):
    content = "\n".join(TEXTS).encode()
    reference = file(translate(stdin=content).out, "same.txt")
    assert "chrF 100.00" in translate("--reference", reference, stdin=content).err


def test_missing_tokenizer_package_is_reported_first(translate, tiny_run, file, tmp_path, monkeypatch):
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ko_mecab.MeCab", None)
    workdir = shutil.copytree(tiny_run, tmp_path / "run")
    config = load_config(workdir / "config.json")
    save_config(dataclasses.replace(config, evaluation=EvaluationConfig("ko-mecab")), workdir / "config.json")
    result = translate(*TEXTS, "--reference", file("x\ny\nz\n", "reference.txt"), workdir=workdir)
    assert result.is_refusal("evaluation.tokenize ko-mecab needs a package", 'pip install "sacrebleu[ko]"')


def test_reference_count_mismatch_is_refused_before_writing(translate, file, tmp_path):
    reference = file("one\ntwo\n", "reference.txt")
    result = translate(*TEXTS, "--reference", reference, "--output", tmp_path / "out.txt")
    assert result.is_refusal(f"lines in {reference} (2) differs from the number of texts (3)")
    assert not (tmp_path / "out.txt").exists()
    # The same without a model: the files are compared before anything is loaded.
    assert translate(TEXTS[0], "--reference", reference, workdir=tmp_path / "none").is_refusal(
        "(2) differs from the number of texts (1)"
    )


def test_blank_references_are_refused_before_loading(translate, file, tmp_path):
    reference = file(" \n\n\n", "blank.txt")
    result = translate(*TEXTS, "--reference", reference, workdir=tmp_path / "none")
    assert result.is_refusal(f"{reference} has only blank lines")
