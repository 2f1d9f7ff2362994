"""Recipes: Python files that define ``config``, selected by path or name."""

from __future__ import annotations

import difflib
import runpy
from pathlib import Path

from transformer_jax.config import Config
from transformer_jax.errors import InputError
from transformer_jax.storage.home import expand_home

PACKAGE = Path(__file__).parent.parent
RECIPE_DIRECTORY = next(path for path in (PACKAGE / "configs", PACKAGE.parent / "configs") if path.is_dir())
"""The recipes of this project: inside the installed package, or next to the package in a checkout."""


def find_recipe(recipe: str) -> Path:
    """Return the path of a recipe.

    recipe: the path of the recipe, or its name in ``RECIPE_DIRECTORY``.
    Raises InputError if the recipe does not exist.
    """
    path = Path(expand_home(recipe))
    if path.is_file():
        return path
    names = sorted(file.stem for file in RECIPE_DIRECTORY.glob("*.py"))
    if path.name == recipe and path.stem in names:
        return RECIPE_DIRECTORY / f"{path.stem}.py"
    suggestions = difflib.get_close_matches(path.stem, names, 1)
    remedy = f"Did you mean --config {suggestions[0]}?" if suggestions else f"Choose one of {', '.join(names)}."
    raise InputError(f"the recipe {recipe} does not exist. {remedy}")


def load_recipe(path: Path) -> Config:
    """Run a recipe file and return its ``config``. Raises InputError if the file fails or defines no ``config``."""
    try:
        config = runpy.run_path(str(path)).get("config")
    except InputError:
        raise
    except Exception as error:  # A recipe is Python code and can raise anything.
        raise InputError(f"{path} fails: {error}. Fix the recipe.") from error
    if not isinstance(config, Config):
        raise InputError(
            f"{path} does not define `config`. Add `config = Config(...)`, as in {RECIPE_DIRECTORY / 'phrasebook.py'}."
        )
    return config
