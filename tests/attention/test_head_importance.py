"""What each head is worth, kept in a file and drawn."""

import json

import numpy as np
import pytest

from transformer_jax.attention.head_importance import Ablation, Changes
from transformer_jax.attention.head_importance_map import draw
from transformer_jax.errors import InputError, RunError


def ablation() -> Ablation:
    """1 layer in the encoder, 2 in the decoder, 3 heads; the head that matters most is cross-attention's last."""

    def changes(layers: int, largest: float) -> Changes:
        worth = np.linspace(-0.01, largest, 3 * layers).reshape(layers, 3)
        return Changes(loss=worth, bleu=-7 * worth)

    heads = {"encoder": changes(1, 0.2), "decoder": changes(2, 0.3), "cross": changes(2, 0.5)}
    return Ablation(5, 1, 0.7, 42.5, "nrefs:1|case:mixed", heads, step=13)


@pytest.fixture
def saved(tmp_path):
    """The path of the file, and a function that changes its content."""
    path = tmp_path / "ablation.json"
    ablation().save(path)

    def change(**content):
        path.write_text(json.dumps(json.loads(path.read_text()) | content))

    return path, change


def test_a_saved_ablation_is_read_back(saved):
    one, read = ablation(), Ablation.load(saved[0])
    assert (read.sentences, read.beam, read.loss, read.bleu, read.signature) == (5, 1, 0.7, 42.5, "nrefs:1|case:mixed")
    assert read.step == 13
    for kind, changes in one.heads.items():
        np.testing.assert_array_equal(read.heads[kind].loss, changes.loss)
        np.testing.assert_array_equal(read.heads[kind].bleu, changes.bleu)


def test_the_file_is_plain_json(saved):
    content = json.loads(saved[0].read_text())
    assert content["format"] == 2
    assert content["heads"]["cross"]["loss"][1][2] == 0.5
    assert content["heads"]["cross"]["bleu"][1][2] == -3.5


def test_the_head_that_is_missed_most_comes_first():
    first, second, *_, last = ablation().rows()
    assert first == ("cross", 1, 2, 0.5, -3.5)
    assert second[:3] == ("cross", 1, 1)
    assert last.loss == -0.01


HEADS = {kind: {"loss": [[0.5]], "bleu": [[-3.5]]} for kind in ("encoder", "decoder", "cross")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": 1}, "format 1 is not 2"),
        ({"format": "1"}, "format '1' is not 2"),
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
def test_a_damaged_file_and_one_of_another_version_are_refused_in_one_line(saved, content, message):
    path, change = saved
    change(**content)
    with pytest.raises(InputError, match=message) as caught:
        Ablation.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff", b'"x"', b"[" * 100_000])
def test_any_other_file_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(InputError, match=r"a\.json: not the result of an ablation"):
        Ablation.load(tmp_path / "a.json")


def test_a_file_that_is_missing_and_one_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: no such file\. .*ablate"):
        Ablation.load(tmp_path / "none.json")
    with pytest.raises(RunError, match=r"a\.json cannot be written"):
        ablation().save(tmp_path / "none" / "a.json")


def test_the_picture_writes_every_change_in_its_cell_and_is_red_where_the_model_is_worse():
    one = ablation()
    figure = draw(one)
    by_kind = [*((kind, "loss") for kind in one.heads), *((kind, "bleu") for kind in one.heads)]
    for axes, (kind, measure) in zip(figure.axes, by_kind, strict=True):
        changes = getattr(one.heads[kind], measure)
        written = [float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in axes.texts]
        np.testing.assert_allclose(written, changes.ravel(), atol=0.006)
        [image] = axes.images
        assert image.get_clim() == (-1, 1)
        red, _, blue, _ = image.cmap(image.norm(image.get_array()[-1, -1]))
        assert red > blue  # Its loss rises, its BLEU falls.
    notes = " ".join(text.get_text() for text in figure.texts)
    for part in ("nats a token", "sacreBLEU 42.50", "5 sentences, greedy", "loss 0.7000"):
        assert part in notes


@pytest.mark.parametrize("heads", [1, 3, 16])
def test_nothing_in_the_picture_touches_anything_or_leaves_it(heads):
    changes = Changes(np.full((2, heads), 0.123), np.full((2, heads), -12.34))
    figure = draw(Ablation(1000, 4, 1.5, 27.1, "s", {"encoder": changes, "decoder": changes, "cross": changes}))
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


def test_a_model_whose_heads_do_nothing_can_be_drawn():
    nothing = Changes(np.zeros((1, 2)), np.zeros((1, 2)))
    figure = draw(Ablation(1, 1, 1.0, 0.0, "s", {"encoder": nothing, "decoder": nothing, "cross": nothing}))
    assert {text.get_text() for axes in figure.axes for text in axes.texts} == {"0.000", "0.00"}
