"""The pages of docs/ hold: what they name exists, their commands can be given, their examples are read."""

import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from documented import FENCED, ROOT, documented_commands
from tiny_run import make_run

from transformer_jax.__main__ import COMMANDS
from transformer_jax.commands.cli import parse_arguments
from transformer_jax.commands.train import parse_train
from transformer_jax.commands.translate import TranslateCommand
from transformer_jax.config import Config
from transformer_jax.data.sources import open_pairs

DOCS = ROOT / "docs"
TEXTS = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
NAMED = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md")} | TEXTS
FOLDERS = ("transformer_jax", "configs", "tests", "docs", "benchmarks", "fuzz")


def given(script, texts):
    """The commands of all documents, once each."""
    return sorted({tuple(arguments) for text in texts.values() for arguments in documented_commands(script, text)})


def test_every_identifier_whose_source_is_shown_exists():
    names = re.findall(r"^::: (\S+)$", "\n".join(TEXTS.values()), re.MULTILINE)
    assert len(names) > 20
    for name in names:
        assert pkgutil.resolve_name(name)


def test_every_setting_that_is_named_exists():
    named = set(re.findall(r"--([a-z]+)\.([a-z][a-z-]*[a-z])", "\n".join(NAMED.values())))
    assert len(named) > 20
    missing = [pair for pair in named if not hasattr(getattr(Config(), pair[0], None), pair[1].replace("-", "_"))]
    assert not missing


@pytest.mark.parametrize("arguments", given("train.py", TEXTS), ids=" ".join)
def test_a_training_command_can_be_given(arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    if "--training.init" in arguments:
        make_run(tmp_path / arguments[arguments.index("--training.init") + 1])
        monkeypatch.chdir(tmp_path)
    if "--help" not in arguments:
        parse_train(list(arguments))


@pytest.mark.parametrize("arguments", given("translate.py", TEXTS), ids=" ".join)
def test_a_translating_command_can_be_given(arguments):
    parse_arguments(TranslateCommand(), list(arguments), "python translate.py")


@pytest.mark.parametrize("arguments", given("-m", NAMED), ids=" ".join)
def test_a_module_s_command_can_be_given(arguments):
    module, *rest = arguments
    assert importlib.util.find_spec(module)
    if module == "transformer_jax" and rest[0] in COMMANDS:
        command = import_module(f"transformer_jax.commands.{COMMANDS[rest[0]][0]}")
        default = next(
            value
            for name, value in vars(command).items()
            if name.endswith("Command") and value.__module__ == command.__name__
        )
        parse_train(rest[1:]) if rest[0] == "train" else parse_arguments(default(), rest[1:], module)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_links_lead_to_files_and_files_that_are_named_exist(path):
    text = FENCED.sub("", TEXTS[path])
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    words = [word.strip("(),;") for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()]
    named = [word for word in words if word.split("/")[0] in FOLDERS and "/" in word]
    missing = [link for link in links if not (path.parent / link).exists()]
    missing += [word for word in named if not (ROOT / word).exists()]
    assert not missing


def test_the_data_of_every_kind_of_locator_is_made_and_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    page = TEXTS[DOCS / "data.md"]
    examples = [block for language, block in FENCED.findall(page) if language == "bash" and "train.py" not in block]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-e"], input="".join(examples), env={**os.environ, "PATH": path}, text=True, check=True)
    locators = re.findall(r"^Locator: `(.*text/[^`]+)`$", page, re.MULTILINE)
    assert len(locators) == 6
    for locator in locators:
        pairs = open_pairs(locator.replace("$PWD", str(tmp_path)), "en", "de", "train")
        assert list(pairs) == [("Good morning.", "Guten Morgen."), ("Thank you.", "Vielen Dank.")]
