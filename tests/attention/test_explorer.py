"""The page holds the numbers of the arrays and the text of the sentences, and nothing that could run or be loaded."""

import base64
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
from transformer_jax.attention.explorer import Html, Page, open_page, quantised, to_html
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
def test_a_stored_weight_is_within_a_65535th_and_rows_sum_to_1(weights, masked) -> None:
    weights[..., masked:-1] = 0
    sums = weights.sum(-1, keepdims=True)
    weights = np.where(sums > 0, weights / np.where(sums > 0, sums, 1), 1 / weights.shape[-1]).astype(np.float32)
    stored = quantised(weights)
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored / 65535, weights, atol=1.001 / 65535)
    np.testing.assert_array_equal(stored.sum(-1, dtype=np.int64), 65535)
    assert not stored[weights == 0].any(), "what is masked stays masked"


@given(st.integers(1, 13), st.integers(1, 11), st.integers(1, 5), st.integers(0, 99))
def test_the_page_holds_the_arrays_the_tokens_and_the_texts(source, target, heads, seed) -> None:
    source, target = ((*"▁abcdefghijkl"[:length], "[EOS]")[-length:] for length in (source, target))
    attention = make_attention(source, target, seed, heads=heads)
    page = data_of(to_html([(7, attention)]))
    assert page["index"] == {
        "sentences": [{"number": 7, "source": attention.source}],
        "left_out": "",
        "ablation": None,
    }
    found = page["sentence-0"]
    for kind in ("encoder", "decoder", "cross"):
        weights = getattr(attention, kind)
        layers, heads, *_ = weights.shape
        assert (found[kind]["layers"], found[kind]["heads"]) == (layers, heads)
        stored = np.frombuffer(base64.b64decode(found[kind]["weights"]), "<u2").reshape(weights.shape)
        np.testing.assert_allclose(stored / 65535, weights, atol=1.001 / 65535)
    for name in ("source_tokens", "target_tokens", "target_inputs", "source_words", "target_words"):
        assert tuple(found[name]) == getattr(attention, name)
    np.testing.assert_allclose(found["probabilities"], attention.probabilities, atol=1e-6)
    np.testing.assert_allclose(found["alternative_probabilities"], attention.alternative_probabilities, atol=1e-6)
    assert tuple(map(tuple, found["alternatives"])) == attention.alternatives
    assert (found["source"], found["translation"]) == (attention.source, attention.translation)


@pytest.mark.parametrize("text", [HOSTILE, "<!--<script>", "]]>&amp;\u2028\u0000", "駅 أين 👍🏽", "\ud800"])
def test_a_text_is_data_whatever_it_says(text) -> None:
    attention = make_attention(source=(text, "[EOS]"), source_text=text)
    page = str(to_html([(1, attention)]))
    assert not set(page) & set(text) - set(explorer_text()), "what a user wrote is escaped"
    assert data_of(page)["sentence-0"]["source"] == text
    assert data_of(page)["sentence-0"]["source_tokens"] == [text, "[EOS]"]
    # Three scripts: the sentence, the index, the program.
    assert len(re.findall("<script", page, re.IGNORECASE)) == len(re.findall("</script", page, re.IGNORECASE)) == 3
    assert "<img" not in page


def explorer_text() -> str:
    """What the page says itself."""
    return "".join(explorer._template())


def test_nothing_is_loaded_and_only_the_page_itself_runs() -> None:
    page = to_html([(1, make_attention())])
    [program] = SCRIPT.findall(page)
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()}'" in policy
    assert "unsafe" not in policy
    assert "img-src" not in policy
    addresses = set(re.findall(r"https?://[\w./]+|//[\w]+\.[\w./]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the name of a format, which nothing asks for"


def test_sentences_beyond_the_limit_are_left_out_and_named(monkeypatch) -> None:
    attention = make_attention()
    monkeypatch.setattr(explorer, "LIMIT", len(to_html([(1, attention)])) - len(explorer_text()))
    out = io.StringIO()
    page = Page(out)
    for number in (3, 5, 7, 11):
        page.add(number, attention)
    page.close()
    assert [one["number"] for one in data_of(out.getvalue())["index"]["sentences"]] == [3]
    assert page.left_out.startswith("lines from 5 on are left out (3 with attention)")
    assert data_of(out.getvalue())["index"]["left_out"] == page.left_out


def test_the_first_sentence_is_shown_however_long_it_is(monkeypatch) -> None:
    monkeypatch.setattr(explorer, "LIMIT", 1)
    assert len(data_of(to_html([(1, make_attention())]))) == 2


def test_what_came_before_is_written_already() -> None:
    # A thousand lines must not be held in memory: each is in the file before the next one comes.
    out = io.StringIO()
    page = Page(out)
    sizes = []
    for number in range(3):
        page.add(number, make_attention())
        sizes.append(len(out.getvalue()))
    assert sizes == sorted(set(sizes))


def test_a_page_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "index.html"
    with open_page(path) as page:
        page.add(1, make_attention())
        assert not path.exists()
    assert [one.name for one in path.parent.iterdir()] == ["index.html"]
    before = path.read_text(encoding="utf-8")
    assert before.endswith("</html>\n")

    def interrupted() -> None:
        with open_page(path) as page:
            page.add(2, make_attention())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [one.name for one in path.parent.iterdir()] == ["index.html"]
    assert path.read_text(encoding="utf-8") == before


def test_without_a_sentence_there_is_no_page(tmp_path: Path) -> None:
    with open_page(tmp_path / "index.html"):
        pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="no sentence with attention"):
        to_html([])


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"index\.html: cannot be written"), open_page(tmp_path / "file" / "index.html"):
        pass


def test_a_dump_becomes_the_page_of_what_was_saved(tmp_path: Path) -> None:
    attention = make_attention()
    attention.save(tmp_path / "1.npz")
    assert Attention.load(tmp_path / "1.npz").to_html() == attention.to_html()


def test_notebooks_show_the_page_in_a_frame_of_its_own() -> None:
    page = make_attention(source=(HOSTILE, "[EOS]")).to_html()
    assert isinstance(page, Html)
    frame = page._repr_html_()
    assert frame.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert 'sandbox="allow-scripts allow-downloads"' in frame
    assert frame.count("<") == 2, "the frame's own tags; all of the page is escaped"
    assert make_attention(source=(HOSTILE, "[EOS]"))._repr_html_() == frame


def test_notebooks_keep_the_page_once() -> None:
    page = make_attention().to_html()
    assert pretty(page) == f"<Attention explorer, a page of {len(page):,} characters>"
    assert repr(page) == repr(str(page)), "elsewhere it is the text that it is"
