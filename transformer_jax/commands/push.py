"""The ``push`` command: publication of a finished run on the Hugging Face hub."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.downloads.display import format_size
from transformer_jax.downloads.runs import HUB_RUN, local_run
from transformer_jax.errors import InputError
from transformer_jax.terminal import quote, show


@dataclass(frozen=True)
class PushCommand:
    """Publish a finished run on the Hugging Face hub: best weights, config, tokenizers, scores and a model card.

    Any command then takes hf://OWNER/NAME as its run directory. Log in with `hf auth login`, or set HF_TOKEN.
    """

    run: tyro.conf.Positional[Path | None] = None
    """The run directory."""
    to: tyro.conf.Positional[str | None] = None
    """The repository, hf://OWNER/NAME. It is created if it does not exist. An earlier run in it is replaced."""
    license: str | None = None
    """The licence of the weights, such as apache-2.0, cc-by-4.0 or other. It depends on the training data."""
    private: bool = False
    """Make the repository visible only to its owners."""
    test_text: bool = False
    """Also publish the test set and its translations, which `compare` needs. Check the licence of the test set."""
    dry_run: bool = False
    """Show the files and the model card without contacting the hub."""
    debug: bool = False
    """Show the traceback of an error."""


def push(command: PushCommand) -> None:
    """Publish the run, and print how to use it.

    Raises InputError for invalid options, an unfinished run or missing rights, before anything is uploaded.
    """
    if command.run is None or command.to is None:
        raise InputError(
            f"the run or its name on the hub is missing. Run: {command_prefix('push')} RUN hf://OWNER/NAME --license ID"
        )
    repository = parse_repository(command.to)
    license_id = require_license(command.license)
    from transformer_jax.bridges.hub import upload_run
    from transformer_jax.bridges.model_card import model_card
    from transformer_jax.bridges.published_run import write_published_run
    from transformer_jax.comparison.scored_runs import read_results_file
    from transformer_jax.decoding.translator import Translator

    run = local_run(command.run)
    results = read_results_file(run)
    translator = Translator.load(run)
    with tempfile.TemporaryDirectory(prefix="transformer_jax-") as temporary:
        directory = Path(temporary)
        published = write_published_run(run, translator, results, directory, command.test_text)
        card = model_card(published, repository, license_id)
        (directory / "README.md").write_text(card, encoding="utf-8")
        if command.dry_run:
            show(f"{list_files(directory)}\n\nREADME.md:\n\n{card}", end="")
            return
        address = upload_run(directory, repository, command.private)
    example = f'{command_prefix("translate")} "TEXT" --workdir {quote(f"hf://{repository}")}'
    show(f"Published as {address}. Try:\n{example}")


def parse_repository(url: str) -> str:
    """Return OWNER/NAME. Raises InputError for any other kind of URL, or one with a revision."""
    match = HUB_RUN.fullmatch(url)
    if not match or match["revision"]:
        raise InputError(f"{url} is not a repository of the hub. Write hf://OWNER/NAME, without a revision.")
    return match["name"]


def require_license(license_id: str | None) -> str:
    """Return the licence. Raises InputError if it is missing or is not an identifier."""
    if license_id is None:
        raise InputError(
            "--license is missing. Set it to the licence of the weights, such as apache-2.0, cc-by-4.0 or other. It "
            "depends on the training data."
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license_id):
        raise InputError(
            f"--license {license_id} is not an identifier of the hub. Use one of "
            "https://huggingface.co/docs/hub/repositories-licenses, such as apache-2.0."
        )
    return license_id


def list_files(directory: Path) -> str:
    """Return the size and name of each file, and the sum, as lines."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    rows = [(path.stat().st_size, path.relative_to(directory).as_posix()) for path in files]
    rows.append((sum(size for size, _ in rows), f"in {len(rows)} files"))
    return "\n".join(f"{format_size(size):>12}  {name}" for size, name in rows)


def main(arguments: list[str]) -> None:
    """Parse the arguments and call ``push``."""
    push(parse_arguments(PushCommand(), arguments, command_prefix("push")))
