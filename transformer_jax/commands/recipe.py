"""Recipes: Python files that set `config`, found by path or by name."""

from __future__ import annotations

import difflib
import runpy
from pathlib import Path

from transformer_jax.config import Config
from transformer_jax.errors import InputError

PACKAGE = Path(__file__).parent.parent
RECIPES = next(folder for folder in (PACKAGE / "configs", PACKAGE.parent / "configs") if folder.is_dir())
"""The recipes that come with the package: in it where it is installed, next to it in a checkout."""


def find_recipe(recipe: str) -> Path:
    """Return the file of a recipe, given by its path or by its name in ``RECIPES``.

    Raises InputError if there is none.
    """
    path = Path(recipe)
    if path.is_file():
        return path
    known = sorted(file.stem for file in RECIPES.glob("*.py"))
    if path.name == recipe and path.stem in known:
        return RECIPES / f"{path.stem}.py"
    nearest = difflib.get_close_matches(path.stem, known, 1)
    remedy = f"Did you mean --config {nearest[0]}?" if nearest else f"Recipes are {', '.join(known)}."
    raise InputError(f"{recipe} is not a recipe: there is no such file. {remedy}")


def load_recipe(path: Path) -> Config:
    """Run a recipe file and return its ``config``. Raises InputError if it fails or sets none."""
    try:
        config = runpy.run_path(str(path)).get("config")
    except InputError:
        raise
    except Exception as error:  # Whatever a recipe may raise.
        raise InputError(f"{path} fails: {error}. Fix the recipe.") from error
    if not isinstance(config, Config):
        raise InputError(f"{path} does not set `config` to a Config. See {RECIPES / 'phrasebook.py'} for an example.")
    return config
