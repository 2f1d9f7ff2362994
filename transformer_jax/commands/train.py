"""The ``train`` command: training of a recipe, with options that override its config."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional

import tyro

from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.commands.recipe import find_recipe, load_recipe
from transformer_jax.config import Config, flatten, load_config
from transformer_jax.downloads.runs import local_run, run_url
from transformer_jax.errors import InputError
from transformer_jax.resources.topologies import topology_names
from transformer_jax.storage.home import expand_home
from transformer_jax.storage.untrusted import require_contained
from transformer_jax.terminal import quote_command

TOPOLOGY_HELP = (
    "With --dry-run, the TPU slice for which the TPU compiler compiles the step, evaluation and search. Needs "
    f'`pip install "jax[tpu]"`. Any slice that the compiler knows, such as {", ".join(topology_names())}.'
)


@dataclass(frozen=True)
class TrainCommand:
    """Train a Transformer, or resume the run in the run directory, and evaluate the model on the test set."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    recipe: Annotated[str, tyro.conf.arg(name="config")] = "phrasebook"
    """The recipe: its name in configs/, or the path of a Python file that defines `config`."""
    workdir: Path = Path("runs/phrasebook")
    """The run directory. If omitted, a directory in runs/ with the name of the recipe."""
    fresh: bool = False
    """Stop with an error if the run directory is not empty, instead of resuming the run in it."""
    # Not `Path | None`: tyro would import typeguard to check the default, which takes 0.2 s.
    profile: Optional[Path] = None  # noqa: UP045
    """Write a profile of updates 20 to 24 to this directory. TensorBoard and Perfetto can open it."""
    dry_run: bool = False
    """Do not train. Compile a step for simulated devices and print its memory, communication and time."""
    topology: Annotated[str, tyro.conf.arg(help=TOPOLOGY_HELP)] = ""
    fit: bool = False
    """With --topology, find the largest --data.batch-tokens that fits. It compiles the step several times."""
    mirror: str = ""
    """Location of a copy of the run: gs://BUCKET/PATH, s3://BUCKET/PATH, hf://OWNER/NAME or a directory.
    New checkpoints are copied to it, and an empty run directory is filled from it."""
    distributed: bool = False
    """Train with several processes. On TPU pods and Slurm, JAX finds them automatically.
    Elsewhere, set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID."""
    debug_nans: bool = False
    """Repeat each skipped update to locate the operation that first produces a NaN. Slows down training."""
    debug: bool = False
    """Show the traceback of an error."""


def train(
    recipe: str | Path = "phrasebook",
    workdir: str | Path | None = None,
    mirror: str = "",
    **sections: Mapping[str, Any],
) -> dict[str, Any]:
    """Train like the ``train`` command, and return the content of results.json.

    recipe: the recipe's name or path, like --config.
    workdir: the run directory, like --workdir.
    mirror: location of a copy of the run, like --mirror.
    sections: config fields to override, such as ``training={"steps": 100}``.
    Raises InputError, RunError and StoppedBySignal, as ``fit`` does.
    """
    from transformer_jax.training.loop import fit

    changes = {f"--{name}": value for name, value in flatten(sections).items()}
    places = {"--workdir": workdir, "--mirror": mirror}
    options = {"--config": recipe} | {name: place for name, place in places.items() if place} | changes
    command = parse_train([str(word) for option in options.items() for word in option])
    fit(command.config, command.workdir, recipe=Path(command.recipe).stem, mirror=command.mirror)
    return json.loads((command.workdir / "results.json").read_text(encoding="utf-8"))


def parse_train(arguments: list[str]) -> TrainCommand:
    """Return the ``train`` command that the arguments specify.

    The defaults come from the recipe and, with --training.init, from the model of that run, so these options are parsed
    first. Raises InputError like ``parse_arguments``, if the recipe or the run is invalid, if --fresh is given and the
    run directory is not empty, or if options of the dry run are given without it.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", default="phrasebook")
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--training.init", dest="init")
    program = command_prefix("train")
    try:
        options = parser.parse_known_args(arguments)[0]
    except argparse.ArgumentError as error:
        raise InputError(f"{error}. See {program} --help.") from error
    path = find_recipe(options.config)
    config = load_recipe(path)
    workdir = expand_home(options.workdir or Path("runs") / path.stem)
    if url := run_url(workdir):
        raise InputError(
            f"--workdir {url} is not a directory. Train in a directory of this machine, and upload a copy."
        )
    if init := options.init or config.training.init:
        init = run_url(init) or str(expand_home(Path(init)))
        # A resumed run reads the model from its own directory.
        is_resumed = (workdir / "config.json").is_file()
        config = with_model_of_run(config, init, workdir if is_resumed else local_run(init))
    command = parse_arguments(TrainCommand(config, recipe=options.config, workdir=workdir), arguments, program)
    if init:
        require_model_of_run(command.config, config, init)
        command = dataclasses.replace(command, config=with_init(command.config, init))
    if command.fit and not command.topology:
        raise InputError("--fit needs the memory of a chip. Add --topology, for example --topology v5e:4x4.")
    if command.topology and not command.dry_run:
        raise InputError(f"--topology {command.topology} is only for the dry run. Add --dry-run or remove --topology.")
    if command.fresh and command.workdir.exists() and any(command.workdir.iterdir()):
        raise InputError(
            f"{command.workdir} is not empty. Omit --fresh to resume the run in it, or set "
            f"{quote_command('--workdir', _unused_path(command.workdir))}"
        )
    return command


def with_model_of_run(config: Config, init: str, workdir: Path) -> Config:
    """Return the config with the model and tokenizers of the run in ``workdir``.

    init: the value of --training.init.
    Raises InputError if ``workdir`` contains no run.
    """
    if not (workdir / "config.json").is_file():
        raise InputError(
            f"--training.init {workdir} is not a run directory: config.json is missing. "
            "Set --training.init to the directory of a trained or imported run."
        )
    require_contained(workdir)
    run = load_config(workdir / "config.json")
    return dataclasses.replace(with_init(config, init), model=run.model, tokenizer=run.tokenizer)


def with_init(config: Config, init: str) -> Config:
    """Return the config with another ``training.init``."""
    return dataclasses.replace(config, training=dataclasses.replace(config.training, init=init))


def require_model_of_run(config: Config, run_config: Config, init: str) -> None:
    """Raise InputError if the weights of a run do not fit the model.

    config: the config of the new run.
    run_config: the config of the run that --training.init names.
    init: the value of --training.init.
    """
    for section in ("model", "tokenizer"):
        values, run_values = (dataclasses.asdict(getattr(sections, section)) for sections in (config, run_config))
        for name, value in values.items():
            if value != run_values[name] and name not in ("dropout", "dtype", "attention"):
                option = f"--{section}.{name.replace('_', '-')}"
                raise InputError(
                    f"{option} is {value}, but the run of --training.init {init} was trained with {run_values[name]}. "
                    f"Remove {option} or set {option} {run_values[name]}."
                )


def _unused_path(workdir: Path) -> Path:
    """Return the first path among NAME-2, NAME-3, ... that does not exist."""
    number = 2
    workdir = workdir if workdir.name else workdir.absolute()  # "." has no name.
    while (candidate := workdir.with_name(f"{workdir.name}-{number}")).exists():
        number += 1
    return candidate


def main(arguments: list[str]) -> None:
    """Train and evaluate a run. With --dry-run, print the estimated resources of a training step instead."""
    if "--distributed" in arguments:
        train_with_other_processes(arguments)
        return
    command = parse_train(arguments)
    if command.dry_run:
        from transformer_jax.commands.dry_run import dry_run, topology_dry_run

        if command.topology:
            topology_dry_run(command.config, command.topology, command.fit)
        else:
            dry_run(command.config)
        return
    run_training(command)


def train_with_other_processes(arguments: list[str]) -> None:
    """Join the other processes of the run, and train if all of them have the same settings and software.

    Raises InputError, like all other processes, if they differ.
    """
    from transformer_jax.runtime.agreement import require_agreement
    from transformer_jax.runtime.distributed import distributed_run, failed_start_is_reported

    with failed_start_is_reported():
        command = parse_train(arguments)
        if command.dry_run:
            raise InputError("--dry-run needs no other processes. Remove --distributed.")
    from transformer_jax.commands.run_facts import device_facts, run_facts

    with distributed_run():
        require_agreement("settings and software", run_facts(command.config, command.debug_nans))
        require_agreement("devices", device_facts())
        run_training(command)


def run_training(command: TrainCommand) -> None:
    """Train as the command specifies."""
    from transformer_jax.training.loop import fit

    if command.fresh and command.mirror:
        from transformer_jax.mirror.opening import require_unused

        require_unused(command.mirror)
    fit(
        command.config,
        command.workdir,
        command.profile,
        command.debug_nans,
        Path(command.recipe).stem,
        command_prefix("translate"),
        command.mirror,
    )
