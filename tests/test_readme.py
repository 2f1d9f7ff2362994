"""The README holds: its set-up is the one promised, its commands can be given, its files exist."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from documented import FENCED, ROOT, documented_commands

from transformer_jax.commands.cli import parse_arguments
from transformer_jax.commands.train import parse_train
from transformer_jax.commands.translate import TranslateCommand

RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
TRANSLATION_PAGE = (ROOT / "docs" / "translation.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = FENCED.findall(README)
FOLDERS = ("transformer_jax", "configs", "tests", "docs", "benchmarks", "notebooks", ".ci")


@pytest.mark.parametrize(
    "line",
    ["pip install -r requirements.txt && python train.py", "pip install -r requirements-dev.txt && pytest"],
)
def test_the_set_up_is_the_one_promised(line):
    bash = "".join(block for language, block in BLOCKS if language == "bash")
    assert line in bash.split("\n")


@pytest.mark.parametrize("arguments", documented_commands("train.py", README), ids=" ".join)
def test_a_training_command_can_be_given(arguments, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    if "--help" in arguments:
        with pytest.raises(SystemExit) as end:
            parse_train(arguments)
        assert end.value.code == 0
    else:
        parse_train(arguments)


@pytest.mark.parametrize("arguments", documented_commands("translate.py", README), ids=" ".join)
def test_a_translating_command_can_be_given(arguments):
    parse_arguments(TranslateCommand(), arguments, "python translate.py")


def test_python_examples_use_what_exists():
    import transformer_jax

    examples = [ast.parse(block) for language, block in BLOCKS if language == "python"]
    assert examples
    for node in (node for example in examples for node in ast.walk(example)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "translator":
            assert hasattr(transformer_jax.Translator, node.attr)


def test_every_file_named_exists():
    code = re.findall(r"`([^`\n]+)`", FENCED.sub("", README))
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    named = {word.split(":")[0] for text in code for word in text.split() if word.split("/")[0] in FOLDERS}
    # A name without a folder stands in the table after a path, and means a file beside it.
    for line in README.split("\n"):
        first = re.match(r"\| `(transformer_jax/.*/)\w+\.py`, `\w+\.py`", line)
        if first:
            named |= {first[1] + name for name in re.findall(r"`(\w+\.py)`", line)}
    named |= {word for text in code for word in [text.strip()] if re.fullmatch(r"[A-Z]\w+\.md|LICENSE", word)}
    assert len(named) > 15
    missing = [name for name in sorted({*named, *links}) if not (ROOT / name).exists()]
    assert not missing


def test_every_recipe_is_named():
    for recipe in (ROOT / "configs").glob("*.py"):
        assert f"configs/{recipe.name}" in README


def test_no_figure_is_left_to_fill_in():
    assert "FILL" not in README


def compare_with_documented_translations(run, path):
    """Write the texts of the table in docs/translation.md to a file, and translate them again.

    Texts without a warning must have the same translation and no warning. Others are garbled, and their translations
    and warnings depend on the rounding of the machine: at most two of them may have no warning.
    """
    table = TRANSLATION_PAGE[TRANSLATION_PAGE.index("| text |") :].splitlines()[2:]
    rows = [row.removeprefix("| ").removesuffix(" |").split(" | ") for row in table if row.startswith("| ")]
    texts = [json.loads(f'"{text}"') for text, *_ in rows]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    records = [json.loads(line) for line in run("translate.py", "--input", path, "--jsonl").split("\n")[:-1]]
    unwarned = []
    for (text, _, documented, codes), record in zip(rows, records, strict=True):
        if not codes.strip():
            assert (text, record["text"], record["warnings"]) == (text, documented, [])
        elif not record["warnings"]:
            unwarned.append(text)
    assert len(unwarned) <= 2, unwarned


@pytest.mark.slow
def test_the_two_commands_train_translate_and_show_attention(tmp_path):
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")[:-1]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    # As a user starts it: with the real devices, without the settings of the tests.
    tests_only = ("XLA_", "JAX_", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(tests_only)}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout

    trained = run("train.py")
    assert "python translate.py '" in trained.rstrip("\n").split("\n")[-1]
    results = json.loads((tmp_path / "runs/phrasebook/results.json").read_text())
    assert results["scores"]["BLEU"]["value"] >= 95
    assert results["wall_seconds"] <= 240

    compare_with_documented_translations(run, tmp_path / "everyday.txt")
    [first, *_] = [arguments for arguments in documented_commands("translate.py", README) if "--attention" in arguments]
    assert run("translate.py", *first).strip()
    with np.load(tmp_path / "out/1.npz") as attention:
        np.testing.assert_allclose(attention["cross"].sum(axis=-1), 1, atol=1e-5)
    assert list((tmp_path / "out").glob("1.*.png"))
    assert (tmp_path / "out/index.html").is_file()
    for language, block in BLOCKS:
        if language == "python":
            assert run("-c", block).strip()


def test_every_test_that_a_promise_names_exists():
    named = set(re.findall(r"`((?:tests/)?[a-z_/]*test_[a-z0-9_]+(?:\.py)?)`", RELIABILITY))
    files = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "tests").rglob("test_*.py")}
    functions = set(re.findall(r"^def (test_\w+)", "\n".join(map(Path.read_text, files.values())), re.MULTILINE))
    known = functions | files.keys() | {path.name for path in (ROOT / "tests" / "faults").glob("test_*.py")}
    assert len(named) > 20
    assert named <= known
