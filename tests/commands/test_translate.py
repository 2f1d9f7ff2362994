"""translate.py: what goes in, what comes out, where, and with which exit status."""

import dataclasses
import functools
import gzip
import io
import itertools
import json
import logging
import lzma
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tiny_run import tiny_run  # noqa: F401

from transformer_jax import Translator
from transformer_jax.alignment.error_rate import format_links
from transformer_jax.alignment.word_links import word_links
from transformer_jax.attention import explorer
from transformer_jax.attention.head_importance import Ablation, Changes
from transformer_jax.attention.weights import Attention
from transformer_jax.commands import translate as translate_command
from transformer_jax.commands.cli import run
from transformer_jax.commands.translate import TranslateCommand
from transformer_jax.data import sources

ROOT = Path(__file__).parent.parent.parent
main = runpy.run_path(str(ROOT / "translate.py"))["main"]
load = functools.cache(Translator.load)

TEXTS = ["Where is the dog?", "The old dog is here.", "Is it 3.5?"]
LONG = "Where is the old station? The old dog is here. Where is the old dog?"


class Result(NamedTuple):
    """How a call ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def lines(self):
        assert self.status == 0, self.err
        assert self.out.endswith("\n")
        return self.out.removesuffix("\n").split("\n")

    def is_refusal(self, *parts, status=2):
        """One line on standard error, and nothing else."""
        assert self.status == status, self.err
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        assert self.out == ""
        for part in parts:
            assert str(part) in self.err
        return True


@pytest.fixture
def translate(tiny_run, tmp_path_factory, capfd, monkeypatch):  # noqa: F811
    """Call translate.py in this process; the model is loaded once for all tests."""
    monkeypatch.setattr(Translator, "load", staticmethod(load))
    piped = tmp_path_factory.mktemp("standard-input") / "text"

    def call(*arguments, stdin=b"", workdir=tiny_run):
        chosen = [] if workdir is None else ["--workdir", str(workdir)]
        piped.write_bytes(stdin if isinstance(stdin, bytes) else b"")
        with piped.open(encoding="utf-8") as stream:
            monkeypatch.setattr(sys, "stdin", stream if isinstance(stdin, bytes) else stdin)
            return Result(run(main, [*map(str, arguments), *chosen]), *capfd.readouterr())

    yield call
    for handler in list(logging.root.handlers):
        if type(handler) is logging.StreamHandler:  # the command's own; it writes to a stream that is closed by now
            logging.root.removeHandler(handler)
    logging.root.setLevel(logging.WARNING)


@pytest.fixture
def expected(tiny_run):  # noqa: F811
    """What the run's model says to each text, on one line."""
    return lambda texts: [translate_command.one_line(one.text) for one in load(tiny_run).translate(texts)]


@pytest.fixture
def file(tmp_path):
    def write(content, name="input.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# Where text comes from


def test_each_argument_is_a_line(translate, expected):
    assert translate(*TEXTS).lines == expected(TEXTS)
    assert translate("", TEXTS[0]).lines == ["", *expected(TEXTS[:1])]
    assert translate("\n".join(TEXTS)).lines == expected(TEXTS)


def test_a_file_and_a_pipe_give_the_lines_that_arguments_give(translate, expected, file):
    content = "\n".join(TEXTS) + "\n"
    assert translate("--input", file(content)).lines == expected(TEXTS)
    assert translate(stdin=content.encode()).lines == expected(TEXTS)
    assert translate(stdin=content.encode().removesuffix(b"\n")).lines == expected(TEXTS)


@pytest.mark.parametrize(
    "content",
    [
        b"Where is the dog?\r\n\r\nIs it 3.5?\r\n",
        b"\xef\xbb\xbfWhere is the dog?\n\nIs it 3.5?",
    ],
    ids=["line ends of Windows", "byte order mark"],
)
def test_marks_of_other_systems_are_no_text(content, translate, expected, file):
    assert translate("--input", file(content)).lines == expected(["Where is the dog?", "", "Is it 3.5?"])


def test_only_a_line_feed_ends_a_line(translate, expected, file):
    texts = ["The dog\u2028is here.", "Is\x0c it\x85 3.5?", "a\rb"]
    found = translate("--input", file("\n".join(texts))).lines
    assert found == expected(texts)


def test_what_is_not_utf8_is_replaced_and_its_line_named(translate, expected, file):
    path = file(b"Is it 3.5?\nThe d\xf6g.\n\xff\xfe\n")
    found = translate("--input", path)
    assert found.lines == expected(["Is it 3.5?", "The d\ufffdg.", "\ufffd\ufffd"])
    assert f"{path}:2 is not UTF-8" in found.err
    assert f"{path}:3 is not UTF-8" in found.err
    assert f"{path}:1" not in found.err
    assert "standard input:1 is not UTF-8" in translate(stdin=b"\xe4\n").err


def test_blank_lines_stay_where_they_are(translate, expected):
    found = translate(stdin=b"\nWhere is the dog?\n \t\n\n")
    assert found.lines == ["", *expected(TEXTS[:1]), "", ""]


class Terminal(io.TextIOWrapper):
    """Standard input that somebody types into."""

    def isatty(self):
        return True


def test_at_a_terminal_each_line_is_answered_before_the_next_is_read(tiny_run, translate, monkeypatch, expected):  # noqa: F811
    events = []

    class Typed(io.BytesIO):
        def readline(self):
            events.append("read")
            return super().readline()

    class Noted(Translator):
        def translate_n_best(self, texts, *arguments, **keywords):
            events.append(list(texts))
            return super().translate_n_best(texts, *arguments, **keywords)

    real = load(tiny_run)
    monkeypatch.setattr(Translator, "load", staticmethod(lambda _: Noted(real.config, real.tokenizers, real.params)))
    found = translate(stdin=Terminal(Typed(b"Where is the dog?\nIs it 3.5?\n")))
    assert found.out.split("\n") == [*expected(["Where is the dog?", "Is it 3.5?"]), ""]
    assert found.err.count("> ") == 3
    assert events == ["read", ["Where is the dog?"], "read", ["Is it 3.5?"], "read"]


def test_what_is_typed_may_be_no_utf_8(translate):
    found = translate(stdin=Terminal(io.BytesIO(b"Where is the caf\xe9?\nIs it 3.5?\n")))
    assert "the terminal:1 is not UTF-8" in found.err
    assert len(found.lines) == 2


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"], ids=["nothing", "byte order mark"])
def test_no_text_at_all(content, translate, file):
    if content:
        assert translate(stdin=content).lines == [""]  # a line, if a blank one
    else:
        assert translate(stdin=content).is_refusal("no text to translate")
        assert translate("--input", file(content)).is_refusal("no text to translate")


def test_a_closed_standard_input_holds_no_text(translate):
    assert translate(stdin=None).is_refusal("no text to translate")


def test_lines_keep_their_order_and_numbers_over_blocks(translate, monkeypatch, file):
    monkeypatch.setattr(translate_command, "BLOCK_LINES", 2)
    texts = ["The dog.", "", "Is it?", "a", LONG, "Where is it?", "b"]
    path = file("\n".join(texts))
    whole = [json.loads(line) for line in translate("--input", path, "--jsonl").lines]
    assert [one["line"] for one in whole] == [1, 2, 3, 4, 5, 6, 7]
    monkeypatch.setattr(translate_command, "BLOCK_LINES", 100)
    at_once = [json.loads(line) for line in translate("--input", path, "--jsonl").lines]
    assert [one["tokens"] for one in whole] == [one["tokens"] for one in at_once]


def test_a_long_text_is_one_line_and_its_number_is_named(translate, monkeypatch, expected):
    monkeypatch.setattr(translate_command, "BLOCK_LINES", 2)
    found = translate("a", "b", "c", LONG, "d")
    assert found.lines == expected(["a", "b", "c", LONG, "d"])
    assert "text 4 has more than 16 tokens: it is translated in" in found.err


HOSTILE = [
    b"",
    b" \t ",
    b"\0",
    b"The\0dog.",
    b"Is it 3.5?\r",
    b"\xef\xbb\xbfThe dog.",
    b"\xff\xfe",
    b"The d\xf6g is h\xe9re.",
    *(
        text.encode()
        for text in (
            "שלום עולם",
            "\u202eمرحبا\u202c 7",
            "\u200b\u200d\u2060",
            "🙂",
            "👩‍👩‍👧🏽 🇩🇪",
            "a\u2028b\x0bc\x0cd\x85e\x1cf\rg",
            "🙂\u2029🙂\x1e\x85",
            "日本語の文" * 29,
            "x" * 301,
            "e" + "\u0301" * 97,
            "The dog. " * 1250,  # 5,000 tokens.
        )
    ),
]


def test_every_line_has_one_line_whatever_it_holds(translate, expected, file, monkeypatch):
    monkeypatch.setattr(translate_command, "BLOCK_LINES", 7)
    lines = [TEXTS[0].encode(), *HOSTILE, TEXTS[1].encode()]
    found = translate("--input", file(b"\n".join(lines) + b"\n"))
    assert len(found.lines) == len(lines)
    assert len(found.out.splitlines()) == len(lines), "whatever a reader takes for the end of a line"
    assert [found.lines[0], found.lines[-1]] == expected(TEXTS[:2])
    written = translate("--input", file(b"\n".join(HOSTILE[:-1])), "--jsonl").out.splitlines()
    assert [json.loads(line)["line"] for line in written] == list(range(1, len(HOSTILE)))


# Where translations go


def test_output_goes_to_the_file_alone(translate, expected, tmp_path):
    found = translate(*TEXTS, "--output", tmp_path / "out.txt")
    assert found == (0, "", "")
    assert (tmp_path / "out.txt").read_text().split("\n") == [*expected(TEXTS), ""]
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_a_file_may_be_replaced_by_its_translation(translate, expected, file):
    path = file("\n".join(TEXTS))
    assert translate("--input", path, "--output", path).status == 0
    assert path.read_text().split("\n") == [*expected(TEXTS), ""]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_after_a_failure_the_output_is_as_it_was(error, translate, monkeypatch, file, tmp_path):
    path = file("before", "out.txt")
    calls = itertools.count()
    real = Translator.translate_n_best

    def fail(self, *arguments, **keywords):
        if next(calls) == 1:
            raise error
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(translate_command, "BLOCK_LINES", 2)
    monkeypatch.setattr(Translator, "translate_n_best", fail)
    found = translate(*TEXTS, "--output", path)
    assert found.status == (130 if error is KeyboardInterrupt else 1)
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["out.txt"]


def test_output_may_be_a_pipe(translate, expected, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    assert translate(*TEXTS, "--output", tmp_path / "pipe").status == 0
    reader.join(timeout=10)
    assert read == ["".join(f"{line}\n" for line in expected(TEXTS))]
    assert (tmp_path / "pipe").is_fifo()


def test_a_line_break_in_a_translation_becomes_a_blank():
    text = "a\nb\r\nc\u2028d\x0be\x0cf\x85g\x1ch"
    assert translate_command.one_line(text) == "a b  c d e f g h"
    assert translate_command.one_line("日本 🙂\u200b\tשלום") == "日本 🙂\u200b\tשלום"


def test_a_reader_that_leaves_is_no_error(translate, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as left:
        monkeypatch.setattr(sys, "stdout", left)
        found = translate(*TEXTS)
    assert found.status == 0
    assert found.err == ""


# What is written


def test_scores_against_references_have_signatures(translate, file):
    plain = translate(*TEXTS)
    scored = translate(*TEXTS, "--reference", file(plain.out, "same.txt"))
    assert scored.out == plain.out
    bleu, chrf = scored.err.splitlines()
    assert re.fullmatch(r"BLEU \d+\.\d\d  nrefs:1\|case:mixed\|eff:no\|tok:13a\|smooth:exp\|version:\S+", bleu)
    assert re.fullmatch(r"chrF 100\.00  nrefs:1\|case:mixed\|eff:yes\|nc:6\|nw:0\|space:no\|version:\S+", chrf)
    other = translate(*TEXTS, "--reference", file("x\ny\nz\n", "other.txt"))
    assert "chrF 0." in other.err


def test_piped_text_is_scored_too(translate, file):
    content = "\n".join(TEXTS).encode()
    reference = file(translate(stdin=content).out, "same.txt")
    assert "chrF 100.00" in translate("--reference", reference, stdin=content).err


def test_references_of_another_number_are_refused_before_anything_is_written(translate, file, tmp_path):
    reference = file("one\ntwo\n", "reference.txt")
    found = translate(*TEXTS, "--reference", reference, "--output", tmp_path / "out.txt")
    assert found.is_refusal(f"{reference} has 2 lines for 3 texts")
    assert not (tmp_path / "out.txt").exists()
    # Without a model too: nothing is loaded before the files are known to fit.
    assert translate(TEXTS[0], "--reference", reference, workdir=tmp_path / "none").is_refusal("2 lines for 1 texts")


def test_references_that_are_all_blank_are_refused_before_anything_is_translated(translate, file, tmp_path):
    reference = file(" \n\n\n", "blank.txt")
    assert translate(*TEXTS, "--reference", reference, workdir=tmp_path / "none").is_refusal(f"{reference} is blank")


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_compressed_files_are_read(suffix, compress, translate, tmp_path):
    plain = translate(*TEXTS)
    source, reference = tmp_path / f"text.{suffix}", tmp_path / f"reference.{suffix}"
    source.write_bytes(compress("\n".join(TEXTS).encode()))
    reference.write_bytes(compress(plain.out.encode()))
    found = translate("--input", source, "--reference", reference)
    assert found.out == plain.out
    assert "chrF 100.00" in found.err
    source.write_bytes(compress("\n".join(TEXTS * 100).encode())[:-9])
    assert translate("--input", source, "--output", tmp_path / "out.txt").is_refusal(f"{source} is damaged after line ")
    assert not (tmp_path / "out.txt").exists()
    source.write_bytes(b"plain\n")
    assert translate("--input", source).is_refusal(f"{source} is damaged after line 0")


def test_nothing_of_a_line_is_left_out(translate, file, monkeypatch):
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 2**20)
    path = file("x" * (2**20 + 1), "long.txt")
    assert translate("--input", path).is_refusal(f"{path}:1 has over 1 MiB. Split the line.")


def test_a_pipe_may_be_named_as_a_file(translate, tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=("\n".join(TEXTS),))
    writer.start()
    assert translate("--input", fifo).out == translate(*TEXTS).out
    writer.join()


def test_n_best_names_line_and_score(translate, tiny_run):  # noqa: F811
    found = translate(*TEXTS, "--n-best", 3).lines
    by_hand = load(tiny_run).translate_n_best(TEXTS, 3)
    assert found == [
        f"{number}\t{one.score:.4f}\t{translate_command.one_line(one.text)}"
        for number, group in enumerate(by_hand, start=1)
        for one in group
    ]
    assert len(found) == 9


def test_beam_and_length_penalty_reach_the_search(translate, tiny_run):  # noqa: F811
    found = translate(*TEXTS, "--beam", 2, "--length-penalty", 3, "--n-best", 2).lines
    scores = [one.score for group in load(tiny_run).translate_n_best(TEXTS, 2, 2, 3.0) for one in group]
    assert [line.split("\t")[1] for line in found] == [f"{score:.4f}" for score in scores]


def test_draws_come_again_with_their_seed_alone(translate):
    def draw(*options):
        return translate(TEXTS[0], TEXTS[0], "--sample", *options).lines

    first = draw()
    assert first[0] != first[1]
    assert draw() == first
    assert draw("--seed", 1) != first
    assert len(draw("--n-best", 5)) == 10
    assert draw("--top-k", 1) == translate(TEXTS[0], TEXTS[0], "--beam", 1).lines


def test_jsonl_has_the_raw_text_and_the_alignment(translate, tiny_run):  # noqa: F811
    found = [json.loads(line) for line in translate(TEXTS[0], "", LONG, "--jsonl").lines]
    whole, blank, long = load(tiny_run).translate([TEXTS[0], "", LONG])
    attention = load(tiny_run).attention(TEXTS[0], whole)
    assert [list(one) for one in found] == [["line", "text", "score", "tokens", "alignment"]] * 3
    assert found[0]["text"] == whole.text
    assert found[0]["score"] == pytest.approx(whole.score)
    assert found[0]["tokens"] == list(whole.tokens)
    assert found[0]["alignment"] == attention.cross.mean((0, 1)).argmax(-1).tolist()
    assert found[1] == {"line": 2, "text": blank.text, "score": 0, "tokens": [], "alignment": None}
    assert found[2]["text"] == long.text
    assert found[2]["alignment"] is None


def test_jsonl_has_a_line_for_each_of_the_n_best(translate):
    found = [json.loads(line) for line in translate(*TEXTS, "--jsonl", "--n-best", 2).lines]
    assert [one["line"] for one in found] == [1, 1, 2, 2, 3, 3]
    assert all(len(one["alignment"]) == len(one["tokens"]) for one in found)


def test_alignments_are_of_each_line_and_its_best_translation(
    translate,
    expected,
    monkeypatch,
    tmp_path,
    tiny_run,  # noqa: F811
):
    monkeypatch.setattr(translate_command, "BLOCK_LINES", 2)
    texts, translator = [*TEXTS, "", LONG, "?! 🙂"], load(tiny_run)
    links = [format_links(one) for one in word_links(translator, texts, translator.translate(texts))]
    assert links[3] == ""
    assert links[5] == "0-0 1-1"
    assert translate(*texts, "--alignments", tmp_path / "links").lines == expected(texts)
    assert (tmp_path / "links").read_text().split("\n") == [*links, ""]
    assert len(translate(*texts, "--alignments", tmp_path / "more", "--n-best", 2).lines) > len(texts)
    assert (tmp_path / "more").read_text() == (tmp_path / "links").read_text()


def test_after_a_failure_no_alignments_are_left(translate, monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(translate_command, "write_links", fail)
    found = translate(*TEXTS, "--alignments", tmp_path / "links", "--output", tmp_path / "out")
    assert found.is_refusal("links cannot be written: No space left on device", "name another --alignments", status=1)
    assert list(tmp_path.iterdir()) == []


def test_attention_is_written_for_each_line_that_has_it(translate, tiny_run, tmp_path):  # noqa: F811
    folder = tmp_path / "new" / "attention"
    found = translate("Is it?", "", LONG, "a", "--attention", folder)
    assert len(found.lines) == 4
    kinds = ["cross.layer0", "cross.layer1", "decoder.layer0", "decoder.layer1", "encoder.layer0"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            "index.html",
            *(name for number in (1, 4) for name in (f"{number}.npz", *(f"{number}.{kind}.png" for kind in kinds))),
        ]
    )
    assert "line 2 has no letters" in found.err
    assert "line 3 has no letters or was translated in parts" in found.err
    stored, [one] = Attention.load(folder / "1.npz"), load(tiny_run).translate(["Is it?"])
    assert stored.source == "Is it?"
    assert stored.translation == one.text
    assert stored.target_tokens == one.tokens
    assert stored.cross.shape == (2, 2, len(one.target_ids), len(one.source_ids))
    np.testing.assert_allclose(stored.cross.sum(-1), 1, atol=1e-5)
    assert (folder / "1.cross.layer1.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert [one["number"] for one in index_of(page)["sentences"]] == [1, 4]


def test_the_weights_of_a_translation_are_computed_once(translate, monkeypatch, tmp_path):
    asked, attention = [], Translator.attention
    monkeypatch.setattr(Translator, "attention", lambda *one: asked.append(one[1]) or attention(*one))
    assert len(translate(*TEXTS[:2], "--attention", tmp_path, "--jsonl").lines) == 2
    assert asked == TEXTS[:2]


def test_blanks_around_a_text_change_nothing(translate, tmp_path):
    found = translate(TEXTS[0] + " " * 300, "--attention", tmp_path, "--jsonl")
    assert (found.status, found.err) == (0, "")
    assert Attention.load(tmp_path / "1.npz").source == TEXTS[0]
    assert found.lines == translate(TEXTS[0], "--jsonl").lines


def index_of(page):
    return json.loads(re.search(r'id="index">(.*?)</script>', page)[1])


def test_without_attention_there_is_no_page_but_the_translation(translate, expected, tmp_path):
    found = translate("", LONG, "--attention", tmp_path / "attention")
    assert found.lines == expected(["", LONG])
    assert not list((tmp_path / "attention").iterdir())


def test_a_page_of_an_earlier_call_is_named(translate, tmp_path):
    assert "earlier" not in translate(TEXTS[0], "--attention", tmp_path).err
    assert "index.html is an earlier one: no line has attention." in translate("", "--attention", tmp_path).err


def test_sentences_beyond_the_pages_limit_are_named(translate, monkeypatch, tmp_path):
    monkeypatch.setattr(explorer, "LIMIT", 1)
    found = translate(*TEXTS, "--attention", tmp_path)
    assert f"{tmp_path / 'index.html'}: lines from 2 on are left out (2 with attention)" in found.err
    assert (tmp_path / "3.npz").is_file()
    assert index_of((tmp_path / "index.html").read_text(encoding="utf-8"))["left_out"] in found.err


def test_the_page_shows_what_the_run_knows_of_its_heads(translate, tiny_run, tmp_path):  # noqa: F811
    workdir = shutil.copytree(tiny_run, tmp_path / "run")
    changes = {
        kind: Changes(*np.ones((2, layers, 2))) for kind, layers in (("encoder", 1), ("decoder", 2), ("cross", 2))
    }
    worth = Ablation(sentences=3, beam=1, loss=1.0, bleu=2.0, signature="", heads=changes, step=1)
    worth.save(workdir / "ablation.json")
    translate("Is it?", "--attention", tmp_path / "a", workdir=workdir)
    shown = index_of((tmp_path / "a" / "index.html").read_text(encoding="utf-8"))["ablation"]
    assert shown["cross"] == {"loss": [[1, 1], [1, 1]], "bleu": [[1, 1], [1, 1]]}
    assert shown["conditions"] == "3 sentences, greedy"
    dataclasses.replace(worth, step=7).save(workdir / "ablation.json")
    found = translate("Is it?", "--attention", tmp_path / "a", workdir=workdir)
    assert "ablation.json is of update 7, the model of update 1: it is not shown." in found.err
    assert index_of((tmp_path / "a" / "index.html").read_text(encoding="utf-8"))["ablation"] is None
    (workdir / "ablation.json").write_text("{")
    assert translate("Is it?", "--attention", tmp_path / "b", workdir=workdir).is_refusal("ablation.json", "damaged")


# Wrong use


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("a", "--lenght-penalty", "1"), ["--lenght-penalty", "Did you mean --length-penalty?", "translate.py --help"]),
        (("a", "--beam", "four"), ["--beam"]),
        (("a", "--beam", "0"), ["beam of 0"]),
        (("a", "--n-best", "9"), ["a beam of 3 cannot find 9"]),
        (("a", "--length-penalty", "-1"), ["length penalty of -1"]),
        (("a", "--sample", "--temperature", "0"), ["temperature 0.0"]),
        (("a", "--sample", "--temperature", "nan"), ["temperature nan"]),
        (("a", "--sample", "--top-k", "-1"), ["top-k -1"]),
        (("a", "--sample", "--seed", str(2**32)), ["the seed 4294967296", "from 0 to"]),
        (("a", "--sample", "--beam", "2"), ["--beam means nothing with --sample"]),
        (("a", "--top-k", "0"), ["--top-k means nothing without --sample"]),
        (("a", "--input", __file__), ["both TEXT and --input"]),
        (("--input", "none.txt"), ["none.txt is not a file"]),
        (("--input", "."), [". is not a file"]),
        (("a", "--reference", "none.txt"), ["none.txt is not a file"]),
        (("a", "--output", "none/out.txt"), ["none is not a folder"]),
        (("a", "--output", "/"), ["/ is a folder"]),
        (("a", "--alignments", "none/links"), ["none is not a folder", "another --alignments"]),
        (("a", "--alignments", "/"), ["/ is a folder"]),
        (("a", "--output", "none.txt", "--alignments", "none.txt"), ["none.txt is both --output and --alignments"]),
        (("a", "--attention", __file__), ["test_translate.py is not a folder"]),
    ],
)
def test_wrong_use_is_one_line_and_status_2(arguments, parts, translate):
    assert translate(*arguments).is_refusal(*parts)


def test_help_shows_every_option_and_ends_well(translate, capfd):
    with pytest.raises(SystemExit) as ended:
        translate("--help")
    assert ended.value.code in (0, None)
    shown = capfd.readouterr().out
    for name in TranslateCommand.__dataclass_fields__:
        assert name == "text" or f"--{name.replace('_', '-')}" in shown


def test_a_missing_run_is_refused(translate, tmp_path):
    assert translate("a", workdir=tmp_path / "none").is_refusal(tmp_path / "none", "no config.json")


def test_without_a_finished_run_the_way_to_one_is_named(translate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert translate("a", workdir=None).is_refusal("no finished run under runs/", "python train.py")
    (tmp_path / "runs" / "unfinished").mkdir(parents=True)
    assert translate("a", workdir=None).is_refusal("no finished run under runs/")


def test_the_run_that_finished_last_is_taken_and_named(translate, tiny_run, tmp_path, monkeypatch, expected):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    for name, finished in (("b", 2_000_000), ("c", 3_000_000), ("a", 1_000_000)):
        shutil.copytree(tiny_run, tmp_path / "runs" / name)
        os.utime(tmp_path / "runs" / name / "results.json", (finished, finished))
    shutil.copytree(tiny_run, tmp_path / "runs" / "unfinished")
    (tmp_path / "runs" / "unfinished" / "results.json").unlink()
    found = translate(TEXTS[0], workdir=None)
    assert found.lines == expected(TEXTS[:1])
    assert found.err == "translating with runs/c\n"


def test_a_failure_has_status_1(translate, file):
    blocked = file("") / "attention"
    found = translate("a", "--attention", blocked)
    assert found.status == 1
    assert found.err.startswith(f"error: {blocked}")
    assert found.err.count("\n") == 1


def test_an_interruption_has_status_130(translate, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Translator, "translate_n_best", interrupted)
    assert translate("a") == (130, "", "interrupted\n")


def test_a_traceback_is_shown_on_demand_alone(translate, tmp_path):
    assert "Traceback" not in translate("a", workdir=tmp_path).err
    found = translate("a", "--debug", workdir=tmp_path)
    assert found.status == 2
    assert "Traceback" in found.err
    assert "InputError" in found.err


@pytest.fixture
def start(tiny_run, tmp_path):  # noqa: F811
    """Start the program itself on lines that keep it busy for a while; ``before`` is in its output file."""
    (tmp_path / "in.txt").write_text("a\n" * 20_000)
    (tmp_path / "out.txt").write_text("before")
    processes = []
    # Its output waits in a buffer, as a user's does.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

    def start(*arguments, **streams):
        program = [sys.executable, str(ROOT / "translate.py"), "--workdir", str(tiny_run), "--beam", "1"]
        processes.append(
            subprocess.Popen(
                [*program, "--input", "in.txt", *arguments],
                cwd=tmp_path,
                env=environment,
                stderr=subprocess.PIPE,
                **streams,
            )
        )
        return processes[-1]

    # Where a shell started these tests with `&`, SIGINT is ignored, and programs inherit that.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield start
    signal.signal(signal.SIGINT, handler)
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_a_run_cut_off_leaves_the_output_as_it_was(start, tmp_path, number, status):
    process = start("--output", "out.txt")
    partial = tmp_path / f".out.txt.{process.pid}.partial"
    deadline = time.monotonic() + 100
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(timeout=30) == status
    assert (tmp_path / "out.txt").read_text() == "before"
    left_over = [] if number == signal.SIGINT else [partial.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*left_over, "in.txt", "out.txt"]
    (tmp_path / "in.txt").write_text("a\n" * 3)
    assert start("--output", "out.txt").wait(timeout=100) == 0
    assert (tmp_path / "out.txt").read_text().count("\n") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [*left_over, "in.txt", "out.txt"]


def test_two_runs_that_write_one_file_do_not_spoil_each_other(start, tmp_path):
    long = start("--output", "out.txt")
    partial = tmp_path / f".out.txt.{long.pid}.partial"
    deadline = time.monotonic() + 100
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    long.send_signal(signal.SIGSTOP)
    (tmp_path / "short.txt").write_text("a\n" * 3)
    (tmp_path / "short.txt").replace(tmp_path / "in.txt")  # The first reads on in the file that had this name.
    assert start("--output", "out.txt").wait(timeout=100) == 0
    assert (tmp_path / "out.txt").read_text().count("\n") == 3
    long.send_signal(signal.SIGCONT)
    assert long.wait(timeout=100) == 0
    assert (tmp_path / "out.txt").read_text().count("\n") == 20_000


@pytest.mark.parametrize("alignments", [False, True])
def test_a_program_whose_reader_leaves_ends_quietly(start, alignments, tmp_path):
    process = start(*(["--alignments", tmp_path / "links"] if alignments else []), stdout=subprocess.PIPE)
    assert process.stdout.readline().endswith(b"\n")
    process.stdout.close()
    assert process.wait(timeout=100) == 0
    assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
@pytest.mark.parametrize("arguments", [(), ("--output", "/dev/full"), ("--alignments", "links")])
def test_a_full_disk_is_one_line(start, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("a\n" * 3)
    with open("/dev/full", "w") as full:
        process = start(*arguments, stdout=full)
        message = process.communicate(timeout=100)[1].decode()
    assert process.returncode == 1
    full = "/dev/full" if "/dev/full" in arguments else "standard output"
    assert message.startswith(f"error: {full} cannot be written: No space left on device")
    assert message.count("\n") == 1


def test_a_standard_output_that_is_closed_does_not_matter_to_a_file(tiny_run, tmp_path):  # noqa: F811
    command = [sys.executable, str(ROOT / "translate.py"), "a", "--workdir", str(tiny_run), "--output", "out"]
    found = subprocess.run(["sh", "-c", f"{shlex.join(command)} >&-"], cwd=tmp_path, capture_output=True, timeout=120)
    assert (found.returncode, found.stderr) == (0, b"")
    assert (tmp_path / "out").read_text().endswith("\n")


def test_the_program_itself_from_any_folder_and_in_any_locale(tiny_run, tmp_path, expected):  # noqa: F811
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    program = [sys.executable, str(ROOT / "translate.py"), "--workdir", str(tiny_run)]
    text = "Where is the dog? 駅🙂"
    found = subprocess.run(
        program, input=f"{text}\n\n".encode(), capture_output=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert found.returncode == 0, found.stderr.decode()
    assert found.stdout.decode() == f"{expected([text])[0]}\n\n"
    refused = subprocess.run([*program, "a", "--no-such"], capture_output=True, cwd=tmp_path, timeout=120)
    assert refused.returncode == 2
    assert refused.stderr.decode().count("\n") == 1
