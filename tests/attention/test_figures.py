"""Figures for print have the width that is asked for, letters that can be read, and the numbers of the array."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from picture_cases import SOURCE, TARGET, attention
from PIL import Image

from transformer_jax.attention.__main__ import main
from transformer_jax.attention.figures import draw_figure, write
from transformer_jax.commands.cli import run
from transformer_jax.errors import InputError, RunError

ARABIC = ("▁أين", "▁المحطة", "▁القديمة", "؟", "[EOS]")
LONG = tuple(f"▁{word}" for word in ("jump", "gypsy", "Ångström", "Ệ", "station", "1") * 10)


def maps(figure: Figure) -> list:
    """All axes but the colour bar."""
    return figure.axes[:-1]


def test_panels_show_the_heads_that_are_asked_for() -> None:
    one = attention()
    for heads, titles in (("all", [0, 1, 2]), ("2,0", [2, 0]), ("1", [1])):
        panels = maps(draw_figure(one, "encoder", 1, heads))
        assert [axes.get_title() for axes in panels] == [f"head {number}" for number in titles]
        for axes, number in zip(panels, titles, strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), one.encoder[1, number])
    [mean] = maps(draw_figure(one, "cross", 0, "mean"))
    assert mean.get_title() == "mean of 3 heads"
    np.testing.assert_allclose(mean.images[0].get_array(), one.cross[0].mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize(("heads", "width", "inches"), [("mean", None, 3.3), ("all", None, 6.9), ("0,1,2", 5.5, 5.5)])
def test_a_figure_is_as_wide_as_a_column_or_a_page_or_as_asked_for(heads, width, inches) -> None:
    one = attention(LONG[:13], LONG[:11], heads=8)
    assert draw_figure(one, "cross", 0, heads, width).get_figwidth() == pytest.approx(inches, abs=0.01)


def test_no_setting_of_matplotlib_moves_the_panels() -> None:
    def places() -> list:
        figure = draw_figure(attention(), "cross", 0)
        figure.draw_without_rendering()
        return [axes.get_position().bounds for axes in figure.axes]

    expected = places()
    with rc_context({"figure.constrained_layout.use": True}):
        assert places() == expected


def test_eight_heads_stand_in_equal_rows() -> None:
    tops = [round(axes.get_position().y1, 6) for axes in maps(draw_figure(attention(heads=8), "cross", 0))]
    assert len(set(tops[:4])) == len(set(tops[4:])) == 1
    assert tops[0] > tops[4]


def test_letters_become_smaller_before_a_figure_leaves_the_page() -> None:
    words = [f"w{number}" for number in range(25)]
    few, many = (draw_figure(attention(words[: n - 3], words[:n], heads=8), "cross", 0) for n in (8, 25))
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
def test_no_label_touches_another_or_leaves_the_figure(source, target, heads, width) -> None:
    figure = draw_figure(attention(source, target), "cross", 0, heads, width)
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


def test_what_is_too_long_for_a_page_makes_a_wider_figure_unless_a_width_is_asked_for() -> None:
    one = attention(LONG * 2, TARGET)
    assert 6.9 < draw_figure(one, "cross", 0, "0").get_figwidth() < 15
    with pytest.raises(InputError, match=r"--width 3.3: there 120 tokens .* Use --width (\S+)\.") as caught:
        draw_figure(one, "cross", 0, "0", 3.3)
    advised = float(re.findall(r"--width (\S+)\.$", str(caught.value))[0])
    assert draw_figure(one, "cross", 0, "0", advised).get_figwidth() <= advised


@pytest.mark.parametrize("target", [TARGET, ARABIC, ("▁古い", "駅", "[EOS]")])
@pytest.mark.parametrize("ending", ["pdf", "svg", "png", "PDF"])
def test_the_ending_says_what_is_written_and_it_is_the_same_every_time(target, ending, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for path in paths:
        write(draw_figure(attention(target=target), "cross", 0), path)
    content, again = (path.read_bytes() for path in paths)
    assert content == again
    assert content.startswith({"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}[ending.lower()])
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}


def test_letters_stay_letters(tmp_path: Path) -> None:
    figure = draw_figure(attention(), "cross", 0)
    write(figure, tmp_path / "a.svg")
    write(figure, tmp_path / "a.pdf")
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert ">▁Bahnhof</text>" in svg
    assert ">head 2</text>" in svg
    assert b"/Type42" in (content := (tmp_path / "a.pdf").read_bytes()) or b"/CIDFontType2" in content
    assert b"/Type3" not in content


def test_a_png_is_fine_enough_for_print(tmp_path: Path) -> None:
    write(draw_figure(attention(heads=8), "cross", 0), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width >= 300 * 4
        assert round(picture.info["dpi"][0]) == 300


def test_the_command_writes_the_figure_and_says_nothing(tmp_path: Path, capsys) -> None:
    attention(target=ARABIC).save(tmp_path / "1.npz")
    status = run(main, ["plot", str(tmp_path / "1.npz"), "--output", str(tmp_path / "a.pdf")])
    assert (status, *capsys.readouterr()) == (0, "", "")
    assert (tmp_path / "a.pdf").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "a.jpg"], "Use one of .pdf, .png, .svg."),
        (["--output", "a"], "Use one of .pdf, .png, .svg."),
        (["--output", "none/a.pdf"], "none is not a folder"),
        (["--layer", "1"], "Cross-attention has no layer 1; choose 0, the only one."),
        (["--layer", "-1"], "no layer -1"),
        (["--heads", "0,3"], "Cross-attention, layer 0 has no head 3; choose from 0 to 2."),
        (["--heads", "0,x"], "--heads 0,x: give all, mean, or numbers such as 0,2,5."),
        (["--heads", ""], "give all, mean, or numbers"),
        (["--width", "0.5"], "--width 0.5"),
        (["--width", "nan"], "--width nan makes no sense"),
        (["--width", "inf"], "--width inf makes no sense"),
    ],
)
def test_bad_input_is_one_line(options, message, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    attention().save(tmp_path / "1.npz")
    assert run(main, ["plot", "1.npz", "--output", "a.pdf", *options]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["1.npz"]


@pytest.mark.parametrize(("content", "message"), [(b"no", "damaged"), (None, "no such file")])
def test_a_dump_that_cannot_be_read_is_named(content, message, tmp_path: Path, capsys) -> None:
    if content is not None:
        (tmp_path / "1.npz").write_bytes(content)
    assert run(main, ["plot", str(tmp_path / "1.npz"), "--output", str(tmp_path / "a.pdf")]) == 2
    assert message in capsys.readouterr().err


def test_a_dump_of_another_version_is_named(tmp_path: Path, capsys) -> None:
    np.savez(tmp_path / "1.npz", format=99)
    assert run(main, ["plot", str(tmp_path / "1.npz"), "--output", str(tmp_path / "a.pdf")]) == 2
    assert "format 99 is not" in capsys.readouterr().err


def test_a_figure_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"a\.png cannot be written"):
        write(draw_figure(attention(), "cross", 0, "0"), tmp_path / "none" / "a.png")
