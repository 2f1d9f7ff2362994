"""The command line of training: a recipe from a file, changed field by field."""

from __future__ import annotations

import argparse
import dataclasses
import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from transformer_jax import config as configs
from transformer_jax.commands.cli import parse
from transformer_jax.config import Config
from transformer_jax.errors import InputError
from transformer_jax.storage.untrusted import require_contained

RECIPE = Path(__file__).parent.parent.parent / "configs" / "phrasebook.py"


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
    """Load the recipe that --config names, with the model of the run that --training.init names, if one does; then let
    the other arguments change it. Raises InputError, see ``parse``.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--config", type=Path, default=RECIPE)
    first.add_argument("--workdir", type=Path)
    first.add_argument("--training.init", dest="init")
    try:
        given = first.parse_known_args(arguments)[0]
    except argparse.ArgumentError as error:
        raise InputError(f"{error}. See python train.py --help.") from error
    settings, recipe = load(given.config), given.config
    workdir = given.workdir or Path("runs") / recipe.stem
    if init := given.init or settings.training.init:
        # A run that has begun has all it needs in its own folder.
        begun = (workdir / "config.json").is_file()
        settings = with_model_of(settings, init, workdir if begun else Path(init))
    default = TrainCommand(settings, config=recipe, workdir=workdir)
    command = parse(default, arguments, "train.py")
    if init:
        require_same_model(command.settings, settings, init)
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


def with_model_of(settings: Config, init: str, folder: Path) -> Config:
    """The settings of a run that starts from ``init``, with model and tokenizers of the run in ``folder``. Raises
    InputError if there is none.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"training.init {folder} is not the folder of a run: it has no config.json. Name another.")
    require_contained(folder)
    run = configs.load(folder / "config.json")
    training = dataclasses.replace(settings.training, init=str(Path(init)))
    return dataclasses.replace(settings, model=run.model, tokenizer=run.tokenizer, training=training)


def require_same_model(changed: Config, settings: Config, init: str) -> None:
    """Raise InputError if the run ``init``, which has ``settings``, has no weights for a model with the ``changed``."""
    for section in ("model", "tokenizer"):
        now, there = (dataclasses.asdict(getattr(each, section)) for each in (changed, settings))
        for name in now:
            if now[name] != there[name] and name not in ("dropout", "dtype"):
                option = f"--{section}.{name.replace('_', '-')}"
                raise InputError(f"training.init {init} has {option} {there[name]}, not {now[name]}. Leave it out.")


def _unused(folder: Path) -> Path:
    """The first free name among NAME-2, NAME-3, ..."""
    number = 2
    folder = folder if folder.name else folder.absolute()  # "." has no name.
    while (candidate := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return candidate
