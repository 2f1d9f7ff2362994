"""The command line of training: a recipe from a file, changed field by field."""

from __future__ import annotations

import argparse
import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from transformer_jax.command import parse
from transformer_jax.config import Config
from transformer_jax.errors import InputError

RECIPE = Path(__file__).parent.parent / "configs" / "phrasebook.py"


@dataclass(frozen=True)
class TrainCommand:
    """Train a Transformer; go on where the last run in the same folder stopped; score the test set at the end."""

    settings: Annotated[Config, tyro.conf.arg(name="")]
    config: Path = RECIPE
    """The recipe: a Python file that sets `config`."""
    workdir: Path = Path("runs/phrasebook")
    """The run folder; runs/NAME for the recipe configs/NAME.py unless given."""
    fresh: bool = False
    """Refuse to go on with a run that the folder already holds."""
    profile: Path | None = None
    """A folder for a trace of updates 20 to 24, to be opened with TensorBoard's profiler or in Perfetto."""
    dry_run: bool = False
    """Train nothing: compile the step for the mesh, on pretended devices, and show memory, communication and speed."""
    distributed: bool = False
    """One of several processes: JAX finds the others by itself on TPU pods and Slurm, elsewhere by
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID."""
    debug_nans: bool = False
    """Slower: an update that would be skipped is done again, to name the first operation whose result is no number."""
    debug: bool = False
    """Show the traceback of an error."""


def train_command(arguments: list[str]) -> TrainCommand:
    """Load the recipe that --config names, then let the other arguments change it. Raises InputError, see ``parse``."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--config", type=Path, default=RECIPE)
    try:
        recipe = first.parse_known_args(arguments)[0].config
    except argparse.ArgumentError as error:
        raise InputError(f"{error}. See python train.py --help.") from error
    default = TrainCommand(load(recipe), config=recipe, workdir=Path("runs") / recipe.stem)
    command = parse(default, arguments, "train.py")
    if command.fresh and command.workdir.exists() and any(command.workdir.iterdir()):
        raise InputError(f"{command.workdir} already holds a run. Name another: --workdir {_unused(command.workdir)}")
    return command


def load(path: Path) -> Config:
    """Run a recipe file and take its ``config``. Raises InputError if there is none."""
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.py"))) or "none"
        raise InputError(f"{path} does not exist. Recipes in that folder: {known}.")
    try:
        found = runpy.run_path(str(path)).get("config")
    except InputError:
        raise
    except Exception as error:  # Whatever a recipe may raise.
        raise InputError(f"{path} cannot be run: {error}. Mend the recipe.") from error
    if not isinstance(found, Config):
        raise InputError(f"{path} sets no `config` of type Config. See {RECIPE} for an example.")
    return found


def _unused(folder: Path) -> Path:
    """The first free name among NAME-2, NAME-3, ..."""
    number = 2
    while (candidate := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return candidate
