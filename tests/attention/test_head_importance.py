"""Head importance is saved, loaded and drawn."""

import json

import numpy as np
import pytest

from transformer_jax.attention.head_importance import HeadImportance, ScoreChanges
from transformer_jax.attention.head_importance_map import draw_head_importance
from transformer_jax.errors import InputError, RunError


def make_importance() -> HeadImportance:
    """Return 1 encoder layer, 2 decoder layers and 3 heads; the last head of cross-attention is the most important."""

    def changes(layers: int, largest: float) -> ScoreChanges:
        loss = np.linspace(-0.01, largest, 3 * layers).reshape(layers, 3)
        return ScoreChanges(loss=loss, bleu=-7 * loss)

    heads = {"encoder": changes(1, 0.2), "decoder": changes(2, 0.3), "cross": changes(2, 0.5)}
    return HeadImportance(5, 1, 0.7, 42.5, "nrefs:1|case:mixed", heads, step=13)


@pytest.fixture
def saved(tmp_path):
    """Return the path of the file and a function that changes its content."""
    path = tmp_path / "ablation.json"
    make_importance().save(path)

    def change(**content):
        path.write_text(json.dumps(json.loads(path.read_text()) | content))

    return path, change


def test_saved_head_importance_is_loaded_unchanged(saved):
    loaded = HeadImportance.load(saved[0])
    assert (loaded.sentences, loaded.beam, loaded.loss, loaded.bleu) == (5, 1, 0.7, 42.5)
    assert loaded.signature == "nrefs:1|case:mixed"
    assert loaded.step == 13
    for kind, changes in make_importance().heads.items():
        np.testing.assert_array_equal(loaded.heads[kind].loss, changes.loss)
        np.testing.assert_array_equal(loaded.heads[kind].bleu, changes.bleu)


def test_file_is_plain_json(saved):
    content = json.loads(saved[0].read_text())
    assert content["format"] == 2
    assert content["heads"]["cross"]["loss"][1][2] == 0.5
    assert content["heads"]["cross"]["bleu"][1][2] == -3.5


def test_heads_are_ranked_by_the_change_of_the_loss():
    first, second, *_, last = make_importance().ranked_heads()
    assert first == ("cross", 1, 2, 0.5, -3.5)
    assert second[:3] == ("cross", 1, 1)
    assert last.loss == -0.01


HEADS = {kind: {"loss": [[0.5]], "bleu": [[-3.5]]} for kind in ("encoder", "decoder", "cross")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": 1}, "has format 1, but this version reads format 2"),
        ({"format": "1"}, "has format '1', but this version reads format 2"),
        ({"heads": {}}, "damaged"),
        ({"heads": [[1]]}, "damaged"),
        ({"heads": HEADS | {"cross": {"loss": [[0.5]], "bleu": [[-3.5, 1]]}}}, "damaged"),
        ({"heads": HEADS | {"cross": {"loss": [[0.5], [1, 2]], "bleu": [[-3.5]]}}}, "damaged"),
        ({"heads": HEADS | {"cross": {"loss": [[float("nan")]], "bleu": [[-3.5]]}}}, "damaged"),
        ({"heads": HEADS | {"cross": {"loss": [], "bleu": []}}}, "damaged"),
        ({"heads": HEADS | {"cross": {"loss": [["x"]], "bleu": [["y"]]}}}, "damaged"),
        ({"loss": None}, "damaged"),
        ({"loss": float("inf")}, "damaged"),
    ],
)
def test_damaged_and_other_version_files_are_refused_in_one_line(saved, content, message):
    path, change = saved
    change(**content)
    with pytest.raises(InputError, match=message) as caught:
        HeadImportance.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff", b'"x"', b"[" * 100_000])
def test_foreign_files_are_refused(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(InputError, match=r"a\.json is damaged or was not written by ablate"):
        HeadImportance.load(tmp_path / "a.json")


def test_missing_and_unwritable_files_are_reported(tmp_path):
    with pytest.raises(InputError, match=r"none\.json does not exist\. .*ablate"):
        HeadImportance.load(tmp_path / "none.json")
    with pytest.raises(RunError, match=r"cannot write .*a\.json: "):
        make_importance().save(tmp_path / "none" / "a.json")


def test_picture_shows_every_change_and_is_red_where_worse():
    importance = make_importance()
    figure = draw_head_importance(importance)
    tables = [(kind, measure) for measure in ("loss", "bleu") for kind in importance.heads]
    for axes, (kind, measure) in zip(figure.axes, tables, strict=True):
        changes = getattr(importance.heads[kind], measure)
        written = [float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in axes.texts]
        np.testing.assert_allclose(written, changes.ravel(), atol=0.006)
        [image] = axes.images
        assert image.get_clim() == (-1, 1)
        red, _, blue, _ = image.cmap(image.norm(image.get_array()[-1, -1]))
        assert red > blue  # Masking this head raises the loss and lowers BLEU.
    notes = " ".join(text.get_text() for text in figure.texts)
    for part in ("nats per token", "sacreBLEU 42.50", "5 sentences, greedy", "loss 0.7000"):
        assert part in notes


@pytest.mark.parametrize("heads", [1, 3, 16])
def test_texts_neither_overlap_nor_exceed_the_picture(heads):
    changes = ScoreChanges(np.full((2, heads), 0.123), np.full((2, heads), -12.34))
    by_kind = {"encoder": changes, "decoder": changes, "cross": changes}
    figure = draw_head_importance(HeadImportance(1000, 4, 1.5, 27.1, "s", by_kind))
    figure.draw_without_rendering()
    texts = [*figure.texts]
    for axes in figure.axes:
        texts += [*axes.texts, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height


def test_zero_changes_can_be_drawn():
    zeros = ScoreChanges(np.zeros((1, 2)), np.zeros((1, 2)))
    by_kind = {"encoder": zeros, "decoder": zeros, "cross": zeros}
    figure = draw_head_importance(HeadImportance(1, 1, 1.0, 0.0, "s", by_kind))
    assert {text.get_text() for axes in figure.axes for text in axes.texts} == {"0.000", "0.00"}
