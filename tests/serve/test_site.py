"""The HTTP interface: translations, attention and errors."""

import dataclasses
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
from transformer_jax.decoding.elastic_loop import ElasticLoop
from transformer_jax.decoding.search import Sampling
from transformer_jax.errors import RunError
from transformer_jax.serve import site
from transformer_jax.serve.translation_request import MAX_BODY_BYTES, MAX_CHARACTERS, MAX_LINES

# Imported fixtures share the names of test arguments.
# ruff: noqa: F811


def test_each_line_is_answered_with_its_n_best_list(server):
    answer = server.post({"text": "\n".join([TEXTS[0], "", LONG, TEXTS[1]])})
    assert answer.status == 200
    expected = Translator.translate_n_best(server.translator, [TEXTS[0], "", LONG, TEXTS[1]], 3)
    assert [line["text"] for line in answer.json["lines"]] == [TEXTS[0], "", LONG, TEXTS[1]]
    assert [line["parts"] for line in answer.json["lines"]] == [0, 0, len(expected[2][0].parts), 0]
    assert len(expected[2][0].parts) > 1
    for line, n_best in zip(answer.json["lines"], expected, strict=True):
        texts, tokens, scores = ([item[key] for item in line["translations"]] for key in ("text", "tokens", "score"))
        assert texts == [translation.text for translation in n_best]
        assert tokens == [list(translation.tokens) for translation in n_best]
        np.testing.assert_allclose(scores, [translation.score for translation in n_best], 1e-4)
    assert [len(line["translations"]) for line in answer.json["lines"]] == [3, 1, 3, 3]


def test_explorer_shows_every_sentence(server):
    lines = [TEXTS[0], "!!!", LONG, TEXTS[1]]
    answer = server.post({"text": "\n".join(lines)}).json
    explorer = server.get(answer["attention"])
    assert explorer.status == 200
    scripts = re.findall(r'<script type="application/json" id="sentence-\d+">(.*?)</script>', explorer.text)
    sentences = map(json.loads, scripts)
    expected = [best for [best] in Translator.translate_n_best(server.translator, lines, 1)]
    parts = [(f"3.{index}", part.source, part.text) for index, part in enumerate(expected[2].parts, start=1)]
    assert [(sentence["number"], sentence["source"], sentence["translation"]) for sentence in sentences] == [
        (1, TEXTS[0], expected[0].text),
        *parts,
        (4, TEXTS[1], expected[3].text),
    ]
    assert len(parts) > 1
    assert server.post({"text": "!!!"}).json["attention"] is None


def test_only_the_attention_of_recent_answers_is_kept(server, monkeypatch):
    monkeypatch.setattr(site, "MAX_KEPT_ANSWERS", 2)
    first, *others = [server.post({"text": TEXTS[0]}).json["attention"] for _ in range(3)]
    assert server.get(first).json == {"error": "this translation has been discarded. Translate the text again."}
    assert server.get(first).status == 404
    assert [server.get(other).status for other in others] == [200, 200]


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_line_endings_are_treated_as_in_a_file(server, end):
    lines = server.post({"text": f"{TEXTS[0]}\r\n{TEXTS[1]}{end}"}).json["lines"]
    assert [line["text"] for line in lines] == TEXTS[:2]


@pytest.mark.parametrize("text", ["a" * (MAX_CHARACTERS + 1), "a\n" * (MAX_LINES + 1), "😀" * 10 * MAX_CHARACTERS])
def test_too_long_texts_are_refused(server, text):
    answer = server.post({"text": text})
    assert answer.status == 400
    assert answer.json == {
        "error": "the text exceeds 2,000 characters or 20 lines. Send a shorter text.",
    }


def test_texts_at_the_limit_are_translated(server):
    assert server.post({"text": "\n".join(["dog"] * MAX_LINES)}).status == 200
    longest = json.dumps({"text": "😀" * MAX_CHARACTERS}).encode()
    assert len(longest) <= MAX_BODY_BYTES
    assert server.post(longest).json["lines"][0]["translations"][0]["text"] == "😀" * MAX_CHARACTERS


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
        b"[" * MAX_BODY_BYTES,
    ],
)
def test_invalid_requests_are_refused_with_an_example(server, body):
    answer = server.post(body)
    assert answer.status == 400
    assert answer.json == {"error": 'the request is invalid. Send JSON such as {"text": "Good morning."}.'}


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_empty_texts_are_refused(server, text):
    assert server.post({"text": text}).json == {"error": "the text is empty. Send some text."}


def test_fifty_clients_get_their_own_translations_in_shared_loops(server):
    texts = [f"Where is the {word} {number}?" for number in range(25) for word in ("dog", "station")]
    expected = [best.text for best, *_ in Translator.translate_n_best(server.translator, texts, 3)]
    assert len(set(expected)) > 20, "different texts must have different translations, or swapped answers would pass"
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
    assert sum(server.calls) == len(texts)
    assert max(server.calls) > 1


def test_unexpected_error_is_one_line_and_logs_a_traceback(server, monkeypatch, caplog):
    prepare = server.translator.prepare

    def fail(texts, *arguments):
        if "bad" in texts:
            raise ZeroDivisionError("a fault")
        return prepare(texts, *arguments)

    monkeypatch.setattr(server.translator, "prepare", fail)
    with caplog.at_level(logging.ERROR), ThreadPoolExecutor(2) as threads:
        bad, good = threads.map(server.post, [{"text": "bad"}, {"text": "dog"}])
        end = time.monotonic() + 60  # The server answers first and logs the traceback afterwards.
        while "ZeroDivisionError: a fault" not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)
    assert (bad.status, bad.json) == (
        500,
        {"error": "the request failed unexpectedly. See the traceback in the server's terminal."},
    )
    assert good.status == 200
    assert "ZeroDivisionError: a fault" in caplog.text


def test_errors_of_the_model_are_reported(server, monkeypatch):
    def refuse(loop, joining):
        raise RunError("the model has diverged. Train again.")

    monkeypatch.setattr(ElasticLoop, "advance", refuse)
    answer = server.post({"text": "dog"})
    assert (answer.status, answer.json) == (503, {"error": "the model has diverged. Train again."})


def test_requests_may_have_their_own_search_options(server):
    def answer(**options):
        [line] = server.post({"text": TEXTS[0], **options}).json["lines"]
        return [translation["text"] for translation in line["translations"]]

    def expected(n, *options):
        [n_best] = server.translator.translate_n_best([TEXTS[0]], n, *options)
        return [translation.text for translation in n_best]

    assert answer(beam=1) == expected(1, 1)
    assert answer(beam=2) == expected(2, 2)
    assert answer(beam=2, n_best=1, length_penalty=0) == expected(1, 2, 0.0)
    drawn = answer(sampling={"temperature": 1.5, "seed": 7}, n_best=3)
    assert drawn == expected(3, None, None, Sampling(1.5, 0, 7))
    assert len(answer(sampling={})) == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"beem": 4}, 'the field "beem" is unknown. Send only text, beam, n_best, length_penalty, sampling.'),
        ({"beam": "4"}, '"beam" is not an integer. Send an integer.'),
        ({"beam": True}, '"beam" is not an integer. Send an integer.'),
        ({"beam": 17}, '"beam" is 17. Send at most 16.'),
        ({"beam": 0}, "--beam 0 is invalid. Set --beam to at least 1."),
        ({"n_best": 0}, "--n-best 0 is invalid. Set --n-best to at least 1."),
        ({"beam": 2, "n_best": 3}, "--beam 2 cannot find 3 translations. Raise --beam or lower --n-best."),
        ({"length_penalty": -1}, "--length-penalty -1.0 is invalid. Set --length-penalty to a number from 0 to 10."),
        ({"sampling": []}, '"sampling" is not an object. Send an object.'),
        ({"sampling": {"top_p": 1}}, 'the field "top_p" is unknown. Send only temperature, top_k, seed.'),
        ({"sampling": {"top_k": 101}}, '"top_k" is 101. Send at most 100.'),
    ],
)
def test_invalid_search_options_are_refused(server, options, error):
    answer = server.post({"text": "dog", **options})
    assert (answer.status, answer.json) == (400, {"error": error})


def test_only_files_of_the_page_are_served(server):
    assert "<title>Translate en to de</title>" in server.get("/").text
    assert server.get("/page/page.js").status == server.get("/page/page.css").status == 200
    for path in ("/page/../site.py", "/page/%2e%2e/site.py", "/site.py", "/attention/x", "/page/"):
        assert server.get(path).status == 404
    assert server.get("/none").json == {"error": "Not Found"}
    assert server.get("/translate").status == 405


def test_page_names_languages_by_the_codes_that_browsers_know(server, monkeypatch):
    config = server.translator.config
    data = dataclasses.replace(config.data, source="English", target="jpn_Jpan")
    monkeypatch.setattr(server.translator, "config", dataclasses.replace(config, data=data))
    assert "<title>Translate en to ja-Jpan</title>" in server.get("/").text
