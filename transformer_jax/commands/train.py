"""The command `train`: a recipe, changed field by field, and trained."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.commands.recipe import find_recipe, load_recipe
from transformer_jax.config import Config, load_config
from transformer_jax.errors import InputError
from transformer_jax.storage.untrusted import require_contained


@dataclass(frozen=True)
class TrainCommand:
    """Train a Transformer; go on where the last run in the same folder stopped; score the test set at the end."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    recipe: Annotated[str, tyro.conf.arg(name="config")] = "phrasebook"
    """The recipe: its name in configs/, or the path of a Python file that sets `config`."""
    workdir: Path = Path("runs/phrasebook")
    """The run directory; by default runs/ and the recipe's name."""
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


def train(
    recipe: str | Path = "phrasebook", workdir: str | Path | None = None, **sections: Mapping[str, Any]
) -> dict[str, Any]:
    """Train from Python as the command does, and return the content of results.json.

    recipe, workdir: as --config and --workdir.
    sections: fields of the config to change, such as ``training={"steps": 100}``.
    Raises InputError, RunError and StoppedBySignal, as ``fit`` does.
    """
    from transformer_jax.training.loop import fit

    changes = {f"--{section}.{name}": value for section, fields in sections.items() for name, value in fields.items()}
    places = {"--config": recipe} | ({"--workdir": workdir} if workdir else {})
    command = parse_train([str(word) for option in (places | changes).items() for word in option])
    fit(command.config, command.workdir, recipe=Path(command.recipe).stem)
    return json.loads((command.workdir / "results.json").read_text(encoding="utf-8"))


def parse_train(arguments: list[str]) -> TrainCommand:
    """Return the command that the arguments describe.

    The recipe is loaded first, with the model of the run that --training.init names, if any. The other arguments then
    change single fields. Raises InputError, see ``parse``.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--config", default="phrasebook")
    first.add_argument("--workdir", type=Path)
    first.add_argument("--training.init", dest="init")
    program = command_prefix("train")
    try:
        given = first.parse_known_args(arguments)[0]
    except argparse.ArgumentError as error:
        raise InputError(f"{error}. See {program} --help.") from error
    path = find_recipe(given.config)
    config = load_recipe(path)
    workdir = given.workdir or Path("runs") / path.stem
    if init := given.init or config.training.init:
        # A resumed run reads the model from its own directory.
        begun = (workdir / "config.json").is_file()
        config = with_model_of(config, init, workdir if begun else Path(init))
    command = parse_arguments(TrainCommand(config, recipe=given.config, workdir=workdir), arguments, program)
    if init:
        require_same_model(command.config, config, init)
    if command.fresh and command.workdir.exists() and any(command.workdir.iterdir()):
        raise InputError(f"{command.workdir} already holds a run. Name another: --workdir {_unused(command.workdir)}")
    return command


def with_model_of(config: Config, init: str, folder: Path) -> Config:
    """The config of a run that starts from ``init``, with model and tokenizers of the run in ``folder``. Raises
    InputError if there is none.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"training.init {folder} is not the folder of a run: it has no config.json. Name another.")
    require_contained(folder)
    run = load_config(folder / "config.json")
    training = dataclasses.replace(config.training, init=str(Path(init)))
    return dataclasses.replace(config, model=run.model, tokenizer=run.tokenizer, training=training)


def require_same_model(changed: Config, config: Config, init: str) -> None:
    """Raise InputError if the run ``init``, which has ``config``, has no weights for a model with the ``changed``."""
    for section in ("model", "tokenizer"):
        now, there = (dataclasses.asdict(getattr(each, section)) for each in (changed, config))
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


def main(arguments: list[str]) -> None:
    """Train, score and save one run; with --dry-run only estimate what it takes."""
    command = parse_train(arguments)
    if command.dry_run:
        from transformer_jax.commands.dry_run import dry_run

        dry_run(command.config)
        return
    from transformer_jax.runtime.distributed import distributed_run
    from transformer_jax.training.loop import fit

    with distributed_run() if command.distributed else nullcontext():
        fit(
            command.config,
            command.workdir,
            command.profile,
            command.debug_nans,
            Path(command.recipe).stem,
            command_prefix("translate"),
        )
