"""The page contains the arrays and texts of its sentences, and nothing else that could run or be loaded."""

import base64
import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from explorer_cases import HOSTILE, make_attention
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from IPython.lib.pretty import pretty

from transformer_jax.attention import explorer
from transformer_jax.attention.explorer import Html, PageWriter, open_page, quantize_weights, render_page
from transformer_jax.attention.weights import Attention
from transformer_jax.errors import InputError, RunError

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
DATA = re.compile(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', re.DOTALL)


def data_of(page: str) -> dict:
    return {name: json.loads(text) for name, text in DATA.findall(page)}


@given(
    arrays.arrays(np.float32, st.tuples(*[st.integers(1, 7)] * 4), elements=st.floats(0, 1, width=32)),
    st.integers(0, 7),
)
def test_quantized_weights_are_accurate_and_rows_sum_to_1(weights, masked) -> None:
    weights[..., masked:-1] = 0
    sums = weights.sum(-1, keepdims=True)
    weights = np.where(sums > 0, weights / np.where(sums > 0, sums, 1), 1 / weights.shape[-1]).astype(np.float32)
    stored = quantize_weights(weights)
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored / 65535, weights, atol=1.001 / 65535)
    np.testing.assert_array_equal(stored.sum(-1, dtype=np.int64), 65535)
    assert not stored[weights == 0].any(), "masked weights stay 0"


@given(st.integers(1, 13), st.integers(1, 11), st.integers(1, 5), st.integers(0, 99))
def test_page_data_contains_arrays_tokens_and_texts(source, target, heads, seed) -> None:
    source, target = ((*"▁abcdefghijkl"[:length], "[EOS]")[-length:] for length in (source, target))
    attention = make_attention(source, target, seed, heads=heads)
    page = data_of(render_page([(7, attention)]))
    assert page["index"] == {
        "sentences": [{"number": 7, "source": attention.source}],
        "left_out": "",
        "ablation": None,
    }
    sentence = page["sentence-0"]
    for kind in ("encoder", "decoder", "cross"):
        weights = getattr(attention, kind)
        layers, heads, *_ = weights.shape
        assert (sentence[kind]["layers"], sentence[kind]["heads"]) == (layers, heads)
        stored = np.frombuffer(base64.b64decode(sentence[kind]["weights"]), "<u2").reshape(weights.shape)
        np.testing.assert_allclose(stored / 65535, weights, atol=1.001 / 65535)
    for name in ("source_tokens", "target_tokens", "target_inputs", "source_words", "target_words"):
        assert tuple(sentence[name]) == getattr(attention, name)
    np.testing.assert_allclose(sentence["probabilities"], attention.probabilities, atol=1e-6)
    np.testing.assert_allclose(sentence["alternative_probabilities"], attention.alternative_probabilities, atol=1e-6)
    assert tuple(map(tuple, sentence["alternatives"])) == attention.alternatives
    assert (sentence["source"], sentence["translation"]) == (attention.source, attention.translation)


def test_words_are_named_after_the_texts_of_the_attention() -> None:
    attention = dataclasses.replace(make_attention(), source_texts=("駅", "は"))
    sentence = data_of(render_page([(1, attention)]))["sentence-0"]
    assert sentence["source_texts"] == ["駅", "は"]
    assert sentence["target_texts"] == attention.translation.split()


@pytest.mark.parametrize("text", [HOSTILE, "<!--<script>", "]]>&amp;\u2028\u0000", "駅 أين 👍🏽", "\ud800"])
def test_hostile_text_is_escaped_as_data(text) -> None:
    attention = make_attention(source=(text, "[EOS]"), source_text=text)
    page = str(render_page([(1, attention)]))
    assert not set(page) & set(text) - set(template_text()), "user text is escaped"
    assert data_of(page)["sentence-0"]["source"] == text
    assert data_of(page)["sentence-0"]["source_tokens"] == [text, "[EOS]"]
    # Three scripts: the sentence, the index, the program.
    assert len(re.findall("<script", page, re.IGNORECASE)) == len(re.findall("</script", page, re.IGNORECASE)) == 3
    assert "<img" not in page


def template_text() -> str:
    """Return the page without data."""
    return "".join(explorer._page_template())


def test_policy_allows_only_the_script_of_the_page() -> None:
    page = render_page([(1, make_attention())])
    [program] = SCRIPT.findall(page)
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()}'" in policy
    assert "unsafe" not in policy
    assert "img-src" not in policy
    addresses = set(re.findall(r"https?://[\w./]+|//[\w]+\.[\w./]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the namespace of SVG, which is never requested"


def test_sentences_beyond_the_limit_are_left_out_and_reported(monkeypatch) -> None:
    attention = make_attention()
    data_bytes = len(render_page([(1, attention)])) - len(template_text())
    monkeypatch.setattr(explorer, "MAX_DATA_BYTES", data_bytes)
    out = io.StringIO()
    page = PageWriter(out)
    for number in (3, 5, 7, 11):
        page.add(number, attention)
    page.close()
    assert [sentence["number"] for sentence in data_of(out.getvalue())["index"]["sentences"]] == [3]
    assert page.left_out.startswith("sentences from line 5 onward are omitted (3 in total)")
    assert data_of(out.getvalue())["index"]["left_out"] == page.left_out


def test_the_first_sentence_may_exceed_the_limit(monkeypatch) -> None:
    monkeypatch.setattr(explorer, "MAX_DATA_BYTES", 1)
    assert len(data_of(render_page([(1, make_attention())]))) == 2


def test_each_sentence_is_written_before_the_next_one() -> None:
    # Memory use must not grow with the number of sentences.
    out = io.StringIO()
    page = PageWriter(out)
    sizes = []
    for number in range(3):
        page.add(number, make_attention())
        sizes.append(len(out.getvalue()))
    assert sizes == sorted(set(sizes))


def test_page_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "index.html"
    with open_page(path) as page:
        page.add(1, make_attention())
        assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
    before = path.read_text(encoding="utf-8")
    assert before.endswith("</html>\n")

    def interrupt() -> None:
        with open_page(path) as page:
            page.add(2, make_attention())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
    assert path.read_text(encoding="utf-8") == before


def test_no_page_is_written_without_a_sentence(tmp_path: Path) -> None:
    with open_page(tmp_path / "index.html"):
        pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="the page has no sentences"):
        render_page([])


def test_unwritable_page_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot write .*index\.html: "), open_page(tmp_path / "file" / "index.html"):
        pass


def test_loaded_attention_renders_the_same_page(tmp_path: Path) -> None:
    attention = make_attention()
    attention.save(tmp_path / "1.npz")
    assert Attention.load(tmp_path / "1.npz").to_html() == attention.to_html()


def test_notebooks_show_the_page_in_a_sandboxed_frame() -> None:
    page = make_attention(source=(HOSTILE, "[EOS]")).to_html()
    assert isinstance(page, Html)
    frame = page._repr_html_()
    assert frame.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert 'sandbox="allow-scripts allow-downloads"' in frame
    assert frame.count("<") == 2, "only the tags of the frame; the page is escaped"
    assert make_attention(source=(HOSTILE, "[EOS]"))._repr_html_() == frame


def test_notebooks_store_the_page_only_once() -> None:
    page = make_attention().to_html()
    assert pretty(page) == f"<Attention explorer, a page of {len(page):,} characters>"
    assert repr(page) == repr(str(page)), "elsewhere it is an ordinary string"
