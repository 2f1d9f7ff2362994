"""The pages of docs/ are correct: named things exist, commands can be parsed and examples can be read."""

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
ALL_TEXTS = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md")} | TEXTS
DIRECTORIES = ("transformer_jax", "configs", "tests", "docs", "benchmarks", "fuzz")


def unique_commands(script, texts):
    """Return the commands of all documents, without duplicates."""
    return sorted({tuple(arguments) for text in texts.values() for arguments in documented_commands(script, text)})


def test_every_identifier_with_shown_source_exists():
    names = re.findall(r"^::: (\S+)$", "\n".join(TEXTS.values()), re.MULTILINE)
    assert len(names) > 20
    for name in names:
        assert pkgutil.resolve_name(name)


def test_every_named_option_exists():
    named = set(re.findall(r"--([a-z]+)\.([a-z][a-z-]*[a-z])", "\n".join(ALL_TEXTS.values())))
    assert len(named) > 20
    missing = [pair for pair in named if not hasattr(getattr(Config(), pair[0], None), pair[1].replace("-", "_"))]
    assert not missing


@pytest.mark.parametrize("arguments", unique_commands("train.py", TEXTS), ids=" ".join)
def test_training_command_can_be_parsed(arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    if "--training.init" in arguments:
        make_run(tmp_path / arguments[arguments.index("--training.init") + 1])
        monkeypatch.chdir(tmp_path)
    if "--help" not in arguments:
        parse_train(list(arguments))


@pytest.mark.parametrize("arguments", unique_commands("translate.py", TEXTS), ids=" ".join)
def test_translating_command_can_be_parsed(arguments):
    parse_arguments(TranslateCommand(), list(arguments), "python translate.py")


@pytest.mark.parametrize("arguments", unique_commands("-m", ALL_TEXTS), ids=" ".join)
def test_module_command_can_be_parsed(arguments):
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
def test_linked_and_named_files_exist(path):
    text = FENCED.sub("", TEXTS[path])
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    words = [word.strip("(),;") for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()]
    named = [word for word in words if word.split("/")[0] in DIRECTORIES and "/" in word]
    missing = [link for link in links if not (path.parent / link).exists()]
    missing += [word for word in named if not (ROOT / word).exists()]
    assert not missing


def test_no_file_has_a_placeholder_for_the_repository():
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout")
    placeholder = b"<" + b"repository"
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listing.split("\0") if name]
    assert not [path for path in paths if path.is_file() and placeholder in path.read_bytes()]


def test_example_of_every_locator_is_made_and_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    page = TEXTS[DOCS / "data.md"]
    examples = [block for language, block in FENCED.findall(page) if language == "bash" and "train.py" not in block]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-e"], input="".join(examples), env={**os.environ, "PATH": path}, text=True, check=True)
    locators = re.findall(r"^Locator: `(.*text/[^`]+)`$", page, re.MULTILINE)
    assert len(locators) == 7
    for locator in locators:
        pairs = open_pairs(locator.replace("$PWD", str(tmp_path)), "en", "de", "train")
        assert list(pairs) == [("Good morning.", "Guten Morgen."), ("Thank you.", "Vielen Dank.")]
