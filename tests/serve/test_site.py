"""Plain HTTP, asked as any program would: translations, attention, and what is refused."""

import itertools
import json
import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from site_cases import LONG, TEXTS, server  # noqa: F401

from transformer_jax import Translator
from transformer_jax.errors import RunError
from transformer_jax.serve import site
from transformer_jax.serve.site import BODY, CHARACTERS, LINES

# Fixtures are arguments of the names that they are imported by.
# ruff: noqa: F811


def test_each_line_comes_back_with_its_n_best_list(server):
    answer = server.post({"text": "\n".join([TEXTS[0], "", LONG, TEXTS[1]])})
    assert answer.status == 200
    expected = Translator.translate_n_best(server.translator, [TEXTS[0], "", LONG, TEXTS[1]], 3)
    assert [line["text"] for line in answer.json["lines"]] == [TEXTS[0], "", LONG, TEXTS[1]]
    assert [line["parts"] for line in answer.json["lines"]] == [0, 0, len(expected[2][0].parts), 0]
    assert len(expected[2][0].parts) > 1
    for line, found in zip(answer.json["lines"], expected, strict=True):
        assert [one["text"] for one in line["translations"]] == [one.text for one in found]
        assert [one["tokens"] for one in line["translations"]] == [list(one.tokens) for one in found]
        np.testing.assert_allclose([one["score"] for one in line["translations"]], [one.score for one in found], 1e-4)
    assert [len(line["translations"]) for line in answer.json["lines"]] == [3, 1, 3, 3]


def test_the_attention_is_that_of_the_lines_that_have_one(server):
    answer = server.post({"text": "\n".join([TEXTS[0], LONG, TEXTS[1]])}).json
    shown = server.get(answer["attention"])
    assert shown.status == 200
    sentences = re.findall(r'<script type="application/json" id="sentence-\d">(.*?)</script>', shown.text)
    assert [(one["number"], one["source"], one["translation"]) for one in map(json.loads, sentences)] == [
        (number, answer["lines"][number - 1]["text"], answer["lines"][number - 1]["translations"][0]["text"])
        for number in (1, 3)
    ]
    assert server.post({"text": LONG}).json["attention"] is None


def test_of_the_last_answers_alone_the_attention_can_be_seen(server, monkeypatch):
    monkeypatch.setattr(site, "KEPT", 2)
    first, *others = [server.post({"text": TEXTS[0]}).json["attention"] for _ in range(3)]
    assert server.get(first).json == {"error": "this translation is no longer kept. Translate it again."}
    assert server.get(first).status == 404
    assert [server.get(other).status for other in others] == [200, 200]


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_line_ends_are_those_of_a_file(server, end):
    lines = server.post({"text": f"{TEXTS[0]}\r\n{TEXTS[1]}{end}"}).json["lines"]
    assert [line["text"] for line in lines] == TEXTS[:2]


@pytest.mark.parametrize("text", ["a" * (CHARACTERS + 1), "a\n" * (LINES + 1), "😀" * 10 * CHARACTERS])
def test_too_much_is_refused_whatever_is_sent(server, text):
    answer = server.post({"text": text})
    assert answer.status == 400
    assert answer.json == {
        "error": "the text is longer than 2,000 characters or 20 lines. Translate less at once.",
    }


def test_the_most_that_may_be_sent_is_translated(server):
    assert server.post({"text": "\n".join(["dog"] * LINES)}).status == 200
    longest = json.dumps({"text": "😀" * CHARACTERS}).encode()
    assert len(longest) <= BODY
    assert server.post(longest).json["lines"][0]["translations"][0]["text"] == "😀" * CHARACTERS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text",
        b"\xff",
        b"[1]",
        b"1",
        b"{}",
        b'{"text": 1}',
        b'{"text": null}',
        rb'{"text": "\ud800"}',
        b"[" * BODY,
    ],
)
def test_what_is_no_text_is_refused_with_an_example(server, body):
    answer = server.post(body)
    assert answer.status == 400
    assert answer.json == {"error": 'the request cannot be read. Send JSON such as {"text": "Good morning."}.'}


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_nothing_to_translate_is_said(server, text):
    assert server.post({"text": text}).json == {"error": "there is no text. Type some."}


def test_fifty_clients_at_once_each_get_their_own_translation_in_fewer_calls(server):
    texts = [f"Where is the {word} {number}?" for number in range(25) for word in ("dog", "station")]
    expected = [best.text for best, *_ in Translator.translate_n_best(server.translator, texts, 3)]
    assert len(set(expected)) > 20, "answers that are mixed up could not be told"
    start = threading.Barrier(len(texts))
    server.calls.clear()

    def ask(text):
        start.wait(60)
        return server.post({"text": text})

    with ThreadPoolExecutor(len(texts)) as threads:
        answers = list(threads.map(ask, texts))
    assert [answer.status for answer in answers] == [200] * len(texts)
    assert [answer.json["lines"][0]["text"] for answer in answers] == texts
    assert [answer.json["lines"][0]["translations"][0]["text"] for answer in answers] == expected
    assert sorted(itertools.chain(*server.calls)) == sorted(texts)
    assert len(server.calls) < len(texts) / 2


def test_a_fault_of_ours_is_one_line_and_a_traceback_on_the_terminal(server, monkeypatch, caplog):
    whole = server.translator.translate_n_best

    def fail(texts, *arguments):
        if "bad" in texts:
            raise ZeroDivisionError("a fault")
        return whole(texts, *arguments)

    monkeypatch.setattr(server.translator, "translate_n_best", fail)
    with caplog.at_level(logging.ERROR), ThreadPoolExecutor(2) as threads:
        bad, good = threads.map(server.post, [{"text": "bad"}, {"text": "dog"}])
        end = time.monotonic() + 60  # the server answers first and says why afterwards
        while "ZeroDivisionError: a fault" not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)
    assert (bad.status, bad.json) == (500, {"error": "the server has failed at this. Its terminal says why."})
    assert good.status == 200
    assert "ZeroDivisionError: a fault" in caplog.text


def test_what_the_model_refuses_is_said(server, monkeypatch):
    def refuse(texts, *arguments):
        raise RunError("the model has diverged. Train again.")

    monkeypatch.setattr(server.translator, "translate_n_best", refuse)
    answer = server.post({"text": "dog"})
    assert (answer.status, answer.json) == (503, {"error": "the model has diverged. Train again."})


def test_only_the_page_s_own_files_are_served(server):
    assert "<title>Translate en to de</title>" in server.get("/").text
    assert server.get("/page/page.js").status == server.get("/page/page.css").status == 200
    for path in ("/page/../site.py", "/page/%2e%2e/site.py", "/site.py", "/attention/x", "/page/"):
        assert server.get(path).status == 404
    assert server.get("/none").json == {"error": "Not Found"}
    assert server.get("/translate").status == 405
