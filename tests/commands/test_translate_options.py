"""The options of the command ``translate``: wrong use, the choice of the run, and exit statuses."""

import os
import shutil

import pytest
from translate_cases import TEXTS

from transformer_jax import Translator
from transformer_jax.commands.translate import TranslateCommand


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("a", "--lenght-penalty", "1"), ["--lenght-penalty", "Did you mean --length-penalty?", "translate --help"]),
        (("a", "--beam", "four"), ["--beam"]),
        (("a", "--beam", "0"), ["--beam 0 is invalid"]),
        (("a", "--n-best", "9"), ["--beam 3 cannot find 9"]),
        (("a", "--length-penalty", "-1"), ["--length-penalty -1"]),
        (("a", "--slots", "0"), ["--slots 0 is invalid. Set --slots to at least 1."]),
        (("a", "--sample", "--temperature", "0"), ["temperature 0.0"]),
        (("a", "--sample", "--temperature", "nan"), ["temperature nan"]),
        (("a", "--sample", "--top-k", "-1"), ["top-k -1"]),
        (("a", "--sample", "--seed", str(2**32)), ["seed 4294967296", "from 0 to"]),
        (("a", "--sample", "--beam", "2"), ["--beam has no effect with --sample"]),
        (("a", "--top-k", "0"), ["--top-k has no effect without --sample"]),
        (("a", "--input", __file__), ["TEXT and --input are both given"]),
        (("--input", "none.txt"), ["none.txt is not a file"]),
        (("--input", "."), [". is not a file"]),
        (("a", "--reference", "none.txt"), ["none.txt is not a file"]),
        (("a", "--output", "none/out.txt"), ["none is not a directory"]),
        (("a", "--output", "/"), ["/ is a directory"]),
        (("a", "--alignments", "none/links"), ["none is not a directory", "another --alignments"]),
        (("a", "--alignments", "/"), ["/ is a directory"]),
        (("a", "--output", "none.txt", "--alignments", "none.txt"), ["--output and --alignments are both none.txt"]),
        (("a", "--attention", __file__), ["test_translate_options.py is not a directory"]),
    ],
)
def test_wrong_use_is_one_line_and_status_2(arguments, fragments, translate):
    assert translate(*arguments).is_refusal(*fragments)


def test_help_lists_every_option(translate, capfd):
    with pytest.raises(SystemExit) as ended:
        translate("--help")
    assert ended.value.code in (0, None)
    shown = capfd.readouterr().out
    for name in TranslateCommand.__dataclass_fields__:
        assert name == "text" or f"--{name.replace('_', '-')}" in shown


def test_missing_run_is_refused(translate, tmp_path):
    assert translate("a", workdir=tmp_path / "none").is_refusal(tmp_path / "none", "config.json is missing")


def test_without_a_finished_run_the_error_says_how_to_train(translate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert translate("a", workdir=None).is_refusal("no finished run in runs/", "python -m transformer_jax train")
    (tmp_path / "runs" / "unfinished").mkdir(parents=True)
    assert translate("a", workdir=None).is_refusal("no finished run in runs/")


def test_newest_finished_run_is_used_and_named(translate, tiny_run, tmp_path, monkeypatch, expected):
    monkeypatch.chdir(tmp_path)
    for name, finished in (("b", 2_000_000), ("c", 3_000_000), ("a", 1_000_000)):
        shutil.copytree(tiny_run, tmp_path / "runs" / name)
        os.utime(tmp_path / "runs" / name / "results.json", (finished, finished))
    shutil.copytree(tiny_run, tmp_path / "runs" / "unfinished")
    (tmp_path / "runs" / "unfinished" / "results.json").unlink()
    result = translate(TEXTS[0], workdir=None)
    assert result.lines == expected(TEXTS[:1])
    assert result.err.startswith("runs/unfinished has no results.json")
    assert result.err.endswith("\ntranslating with runs/c\n")


def test_failure_has_status_1(translate, file):
    blocked = file("") / "attention"
    result = translate("a", "--attention", blocked)
    assert result.status == 1
    assert result.err.startswith(f"error: cannot write {blocked}")
    assert result.err.count("\n") == 1


def test_interrupt_has_status_130(translate, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Translator, "translate_n_best", interrupted)
    assert translate("a")[:3] == (130, "", "interrupted\n")


def test_traceback_is_shown_only_with_debug(translate, tmp_path):
    assert "Traceback" not in translate("a", workdir=tmp_path).err
    result = translate("a", "--debug", workdir=tmp_path)
    assert result.status == 2
    assert "Traceback" in result.err
    assert "InputError" in result.err
