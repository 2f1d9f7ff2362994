"""Heat maps show the weights of the array next to the right tokens, and every label is legible."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from picture_cases import SOURCE, TARGET, random_attention
from PIL import Image

from transformer_jax.attention import fonts, heat_maps
from transformer_jax.attention.heat_maps import save_pictures
from transformer_jax.attention.weights import Attention, AttentionKind
from transformer_jax.errors import InputError, RunError


@pytest.fixture(autouse=True)
def _forget_reported_scripts() -> None:
    fonts._reported_scripts.clear()


@pytest.fixture
def no_fonts_but_dejavu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    all_candidates = fonts._candidate_fonts
    monkeypatch.setattr(
        fonts,
        "_candidate_fonts",
        lambda preferred: (font for font in all_candidates(preferred) if font.name == "DejaVu Sans"),
    )
    fonts.find_fonts.cache_clear()
    yield
    fonts.find_fonts.cache_clear()


def draw(attention: Attention, kind: AttentionKind, layer: int) -> Figure:
    return heat_maps._draw_layer(attention, kind, layer)[0]


def key_labels(axes: Axes) -> list[Text]:
    return [text for text in axes.texts if text.get_rotation() == 90]


def query_labels(axes: Axes) -> list[Text]:
    return [text for text in axes.texts if text.get_rotation() == 0]


def words(labels: list[Text]) -> tuple[str, ...]:
    return tuple(label.get_text() for label in labels)


def maps(figure: Figure) -> list[Axes]:
    """Return all axes except the colour bar."""
    return figure.axes[:-1]


@pytest.mark.parametrize(
    ("kind", "queries", "keys"),
    [
        ("encoder", SOURCE, SOURCE),
        ("decoder", TARGET, ("[SOS]", *TARGET[:-1])),
        ("cross", TARGET, SOURCE),
    ],
)
def test_each_map_shows_its_weights_and_tokens(kind: AttentionKind, queries: tuple, keys: tuple) -> None:
    attention = random_attention()
    for layer, weights in enumerate(getattr(attention, kind)):
        figure = draw(attention, kind, layer)
        assert len(maps(figure)) == 3
        for axes, expected in zip(maps(figure), weights, strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), expected)
            assert axes.images[0].get_clim() == (0, 1)
            assert words(query_labels(axes)) == queries
            assert words(key_labels(axes)) == keys


def test_labels_align_with_rows_from_the_top_and_columns() -> None:
    figure = draw(random_attention(), "cross", 0)
    for axes in maps(figure):
        frame = axes.get_window_extent()
        for row, label in enumerate(query_labels(axes)):
            box = label.get_window_extent()
            top, bottom = (axes.transData.transform((0, row + edge))[1] for edge in (-0.5, 0.5))
            assert bottom < (box.y0 + box.y1) / 2 < top
            assert box.x1 < frame.x0
        for column, label in enumerate(key_labels(axes)):
            box = label.get_window_extent()
            left, right = (axes.transData.transform((column + edge, 0))[0] for edge in (-0.5, 0.5))
            assert left < (box.x0 + box.x1) / 2 < right
            assert box.y0 > frame.y1


def test_cell_pixels_have_the_colour_of_the_weight(tmp_path: Path) -> None:
    attention = random_attention()
    attention.cross[0] = 0
    attention.cross[0, :, 1, 3] = 1  # Row 1, column 3 is black, all others are white.
    figure = draw(attention, "cross", 0)
    figure.savefig(tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    for axes in maps(figure):
        x, y = axes.transData.transform((3, 1))
        assert pixels[round(len(pixels) - y), round(x)] < 5
        x, y = axes.transData.transform((1, 3))
        assert pixels[round(len(pixels) - y), round(x)] > 250


def test_cells_are_squares_of_whole_pixels() -> None:
    for axes in maps(draw(random_attention(), "cross", 0)):
        frame = axes.get_window_extent()
        assert frame.width / len(SOURCE) == pytest.approx(frame.height / len(TARGET))
        assert frame.width / len(SOURCE) == pytest.approx(round(frame.width / len(SOURCE)))


LONG = tuple(f"▁{word}" for word in ("jump", "gypsy", "Ångström", "Ệ", "station", "1") * 10)
ARABIC = ("▁أين", "▁المحطة", "▁القديمة", "؟", "[EOS]")


@pytest.mark.parametrize(
    ("source", "target"), [(SOURCE, TARGET), (LONG, (*LONG[1:], "[EOS]")), (SOURCE, ARABIC), (("a",), ("[EOS]",))]
)
def test_labels_neither_overlap_nor_exceed_the_picture(source: tuple, target: tuple) -> None:
    figure = draw(random_attention(source, target, heads=2), "cross", 0)
    figure.draw_without_rendering()
    titles = [axes.title for axes in maps(figure)]
    bar = figure.axes[-1]
    boxes = [text.get_window_extent() for text in (*figure.texts, *titles, bar.yaxis.label, *bar.get_yticklabels())]
    for axes in maps(figure):
        boxes += [label.get_window_extent() for label in axes.texts]
        assert query_labels(axes)[0].get_fontsize() >= 6.5
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height


def test_titles_use_the_array_indices_of_layers_and_heads() -> None:
    one_head = draw(random_attention(heads=1), "encoder", 1)
    assert one_head.texts[0].get_text() == "Encoder self-attention, layer 1, head 0"
    two_heads = draw(random_attention(heads=2), "cross", 0)
    assert two_heads.texts[0].get_text() == "Cross-attention, layer 0"
    assert [axes.get_title() for axes in maps(two_heads)] == ["head 0", "head 1"]


@pytest.mark.parametrize(
    ("token", "label"),
    [
        ("$x_1$", "$x_1$"),
        ("", '""'),
        ("\n", r"\n"),
        ("a b", "a␣b"),
        ("\u200bx", r"\u200bx"),
        ("\u202ex", r"\u202ex"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("❤\ufe0f", "❤"),
        ("a" * 20, "a" * 20),
        ("a" * 21, "a" * 19 + "…"),
        ("e\u0301" * 20, "e\u0301" * 20),
    ],
)
def test_label_shows_its_token(token: str, label: str) -> None:
    figure = draw(random_attention(source=(token, "b")), "cross", 0)
    [drawn, _] = key_labels(maps(figure)[0])
    assert drawn.get_text() == label
    assert not drawn.get_parse_math()


@pytest.mark.usefixtures("no_fonts_but_dejavu")
def test_missing_glyphs_become_boxes_with_one_warning(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    attention = random_attention(source=("▁駅", "▁です", "สวัสดี"), target=("▁역은", "日本", "[EOS]"))
    with caplog.at_level(logging.WARNING):
        save_pictures(attention, tmp_path, "1")
        figure = draw(attention, "cross", 0)
    [line] = caplog.messages
    assert "Chinese characters, Japanese, Korean, Thai" in line
    assert "pip install noto-cjk-sans-otc" in line
    assert "\n" not in line
    assert words(key_labels(maps(figure)[0])) == ("▁▯", "▁▯▯", "▯" * 6)


def test_arabic_letters_are_joined() -> None:
    # Joined letters have other, narrower forms than isolated ones.
    figure = Figure()
    joined, apart = (
        figure.text(0, 0, text).get_window_extent().width for text in ("محطة", "م ح ط ة".replace(" ", "\u200c"))
    )
    assert joined < apart


@pytest.mark.parametrize("target", [ARABIC, ("▁古い", "駅", "は", "どこ", "です", "か", "。", "[EOS]")])
def test_pictures_are_written_for_every_kind_and_layer(target: tuple, tmp_path: Path) -> None:
    paths = save_pictures(random_attention(target=target), tmp_path / "new", "7")
    names = ["7.encoder.layer0.png", "7.encoder.layer1.png", "7.decoder.layer0.png", "7.cross.layer0.png"]
    assert [path.name for path in paths] == names
    for path in paths:
        pixels = np.asarray(Image.open(path))
        assert min(pixels.shape[:2]) > 300
        assert pixels.std() > 10


def test_saved_picture_equals_the_drawn_figure(tmp_path: Path) -> None:
    attention = random_attention(heads=4)
    paths = save_pictures(attention, tmp_path, "1")[1:]
    for path, kind in zip(paths, ("encoder", "decoder", "cross"), strict=True):
        draw(attention, kind, 1 if kind == "encoder" else 0).savefig(tmp_path / "drawn.png")
        drawn = Image.open(tmp_path / "drawn.png").convert("RGB")
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(drawn))


def test_missing_kind_or_layer_is_reported_with_the_valid_ones() -> None:
    # InputError, or jaxtyping's TypeError, because the tests check annotations.
    with pytest.raises((InputError, TypeError), match=r"(?s)(kind|type).*'self'.*encoder.*decoder.*cross"):
        draw(random_attention(), "self", 0)
    with pytest.raises(
        InputError, match=r"Encoder self-attention has no layer 2\. Set --layer to a number from 0 to 1\."
    ):
        draw(random_attention(), "encoder", 2)
    with pytest.raises(InputError, match=r"no layer -1\. Set --layer to 0\."):
        draw(random_attention(), "cross", -1)


def test_unwritable_picture_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot write .*layer0\.png: "):
        save_pictures(random_attention(), tmp_path / "file", "1")


def test_luminance_decreases_with_the_weight() -> None:
    colours = heat_maps._colour_map()(np.linspace(0, 1, 256))[:, :3]
    luminance = colours @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) < 0).all()
    assert luminance[0] == pytest.approx(1)
    assert luminance[-1] < 0.01


def test_importing_heat_maps_does_not_import_matplotlib() -> None:
    code = "import sys, transformer_jax.attention.heat_maps; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
