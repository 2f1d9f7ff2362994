"""Figures for print: requested width, legible labels, the weights of the array."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from picture_cases import SOURCE, TARGET, random_attention
from PIL import Image

from transformer_jax.__main__ import dispatch
from transformer_jax.attention.figures import draw_figure, save_figure
from transformer_jax.commands.cli import run_command
from transformer_jax.errors import InputError, RunError

ARABIC = ("▁أين", "▁المحطة", "▁القديمة", "؟", "[EOS]")
LONG = tuple(f"▁{word}" for word in ("jump", "gypsy", "Ångström", "Ệ", "station", "1") * 10)


def maps(figure: Figure) -> list:
    """Return all axes except the colour bar."""
    return figure.axes[:-1]


def test_panels_show_the_requested_heads() -> None:
    attention = random_attention()
    for heads, numbers in (("all", [0, 1, 2]), ("2,0", [2, 0]), ("1", [1])):
        panels = maps(draw_figure(attention, "encoder", 1, heads))
        assert [axes.get_title() for axes in panels] == [f"head {number}" for number in numbers]
        for axes, number in zip(panels, numbers, strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), attention.encoder[1, number])
    [mean] = maps(draw_figure(attention, "cross", 0, "mean"))
    assert mean.get_title() == "mean of 3 heads"
    np.testing.assert_allclose(mean.images[0].get_array(), attention.cross[0].mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize(("heads", "width", "inches"), [("mean", None, 3.3), ("all", None, 6.9), ("0,1,2", 5.5, 5.5)])
def test_figure_width_is_column_page_or_requested(heads, width, inches) -> None:
    attention = random_attention(LONG[:13], LONG[:11], heads=8)
    assert draw_figure(attention, "cross", 0, heads, width).get_figwidth() == pytest.approx(inches, abs=0.01)


def test_matplotlib_settings_do_not_move_panels() -> None:
    def panel_bounds() -> list:
        figure = draw_figure(random_attention(), "cross", 0)
        figure.draw_without_rendering()
        return [axes.get_position().bounds for axes in figure.axes]

    expected = panel_bounds()
    with rc_context({"figure.constrained_layout.use": True}):
        assert panel_bounds() == expected


def test_eight_heads_form_two_rows_of_four() -> None:
    figure = draw_figure(random_attention(heads=8), "cross", 0)
    tops = [round(axes.get_position().y1, 6) for axes in maps(figure)]
    assert len(set(tops[:4])) == len(set(tops[4:])) == 1
    assert tops[0] > tops[4]


def test_labels_shrink_before_a_figure_exceeds_the_page() -> None:
    words = [f"w{number}" for number in range(25)]
    few, many = (draw_figure(random_attention(words[: n - 3], words[:n], heads=8), "cross", 0) for n in (8, 25))
    assert many.get_figheight() <= 9
    sizes = [maps(figure)[0].texts[0].get_fontsize() for figure in (few, many)]
    assert sizes[0] >= 6 > sizes[1] >= 5


CASES = [
    (SOURCE, TARGET, "all", None),
    (SOURCE, TARGET, "mean", None),
    (SOURCE, TARGET, "all", 3.3),
    (LONG, (*LONG[1:], "[EOS]"), "all", None),
    (LONG[:30], LONG[:20], "mean", None),
    (SOURCE, ARABIC, "all", None),
    (("a",), ("[EOS]",), "all", None),
]


@pytest.mark.parametrize(("source", "target", "heads", "width"), CASES)
def test_labels_neither_overlap_nor_exceed_the_figure(source, target, heads, width) -> None:
    figure = draw_figure(random_attention(source, target), "cross", 0, heads, width)
    figure.draw_without_rendering()
    bar = figure.axes[-1]
    texts = [bar.yaxis.label, *bar.get_yticklabels()]
    for axes in maps(figure):
        texts += [axes.title, *axes.texts]
    assert min(text.get_fontsize() for text in texts) >= 5
    boxes = [text.get_window_extent() for text in texts]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height


def test_long_sentences_widen_a_figure_without_requested_width() -> None:
    attention = random_attention(LONG * 2, TARGET)
    assert 6.9 < draw_figure(attention, "cross", 0, "0").get_figwidth() < 15
    with pytest.raises(
        InputError, match=r"--width 3.3 is too narrow: the labels .* Omit --width, or set --width (\S+)\.$"
    ) as caught:
        draw_figure(attention, "cross", 0, "0", 3.3)
    advised = float(re.findall(r"--width (\S+)\.$", str(caught.value))[0])
    assert draw_figure(attention, "cross", 0, "0", advised).get_figwidth() <= advised


@pytest.mark.parametrize("target", [TARGET, ARABIC, ("▁古い", "駅", "[EOS]")])
@pytest.mark.parametrize("suffix", ["pdf", "svg", "png", "PDF"])
def test_suffix_selects_format_and_output_is_deterministic(target, suffix, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        save_figure(draw_figure(random_attention(target=target), "cross", 0), path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith({"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}[suffix.lower()])
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}


def test_text_is_saved_as_text_in_svg_and_pdf(tmp_path: Path) -> None:
    figure = draw_figure(random_attention(), "cross", 0)
    save_figure(figure, tmp_path / "a.svg")
    save_figure(figure, tmp_path / "a.pdf")
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert ">▁Bahnhof</text>" in svg
    assert ">head 2</text>" in svg
    assert b"/Type42" in (content := (tmp_path / "a.pdf").read_bytes()) or b"/CIDFontType2" in content
    assert b"/Type3" not in content


def test_png_has_print_resolution(tmp_path: Path) -> None:
    save_figure(draw_figure(random_attention(heads=8), "cross", 0), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width >= 300 * 4
        assert round(picture.info["dpi"][0]) == 300


def test_plot_writes_the_figure_and_prints_nothing(tmp_path: Path, capsys) -> None:
    random_attention(target=ARABIC).save(tmp_path / "1.npz")
    status = run_command(dispatch, ["plot", str(tmp_path / "1.npz"), "--output", str(tmp_path / "a.pdf")])
    assert (status, *capsys.readouterr()) == (0, "", "")
    assert (tmp_path / "a.pdf").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "a.jpg"], "Set --output to a .pdf, .png or .svg file."),
        (["--output", "a"], "Set --output to a .pdf, .png or .svg file."),
        (["--output", "none/a.pdf"], "none is not a directory"),
        (["--layer", "1"], "Cross-attention has no layer 1. Set --layer to 0."),
        (["--layer", "-1"], "no layer -1"),
        (["--heads", "0,3"], "layer 0, has no head 3. Replace 3 in --heads with a number from 0 to 2."),
        (["--heads", "0,x"], "--heads 0,x is invalid. Set --heads to all, mean, or numbers such as 0,2,5."),
        (["--heads", ""], "Set --heads to all, mean, or numbers"),
        (["--width", "0.5"], "--width 0.5"),
        (["--width", "nan"], "--width nan is invalid"),
        (["--width", "inf"], "--width inf is invalid"),
    ],
)
def test_plot_reports_bad_input_in_one_line(options, message, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    random_attention().save(tmp_path / "1.npz")
    assert run_command(dispatch, ["plot", "1.npz", "--output", "a.pdf", *options]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["1.npz"]


@pytest.mark.parametrize(("content", "message"), [(b"no", "damaged"), (None, "does not exist")])
def test_plot_reports_an_unreadable_attention_file(content, message, tmp_path: Path, capsys) -> None:
    if content is not None:
        (tmp_path / "1.npz").write_bytes(content)
    assert run_command(dispatch, ["plot", str(tmp_path / "1.npz"), "--output", str(tmp_path / "a.pdf")]) == 2
    assert message in capsys.readouterr().err


def test_plot_reports_another_format_version(tmp_path: Path, capsys) -> None:
    np.savez(tmp_path / "1.npz", format=99)
    assert run_command(dispatch, ["plot", str(tmp_path / "1.npz"), "--output", str(tmp_path / "a.pdf")]) == 2
    assert "has format 99, but this version reads format 2" in capsys.readouterr().err


def test_unwritable_figure_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*a\.png: "):
        save_figure(draw_figure(random_attention(), "cross", 0, "0"), tmp_path / "none" / "a.png")
