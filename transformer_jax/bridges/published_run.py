"""The files of a run that ``push`` publishes. They contain no paths of this machine and no optimizer state."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_jax.bridges.weights_only_run import write_run
from transformer_jax.config import Config
from transformer_jax.decoding.translator import Translator
from transformer_jax.downloads.streams import public_url
from transformer_jax.errors import InputError
from transformer_jax.evaluation import HYPOTHESES_FILE, REFERENCES_FILE, SOURCES_FILE
from transformer_jax.storage import atomic
from transformer_jax.storage.remote import is_url

COPIED_FILES = ("text_statistics.json", "confidence.json", "ablation.json")
"""Files that are copied unchanged if the run has them."""
TEST_TEXT_FILES = (SOURCES_FILE, REFERENCES_FILE, HYPOTHESES_FILE)


def write_published_run(
    run: Path, translator: Translator, results: Mapping[str, Any], directory: Path, with_test_text: bool
) -> dict[str, Any]:
    """Write the files of a run that are published, and return its published results.

    run: the run directory.
    translator: its model.
    results: the content of results.json.
    directory: an empty directory.
    with_test_text: whether sources, references and translations of the test set are published.
    Raises InputError if results.json belongs to another checkpoint, or if a file is missing.
    """
    step = translator.step or 0
    if results.get("best_step") != step:
        raise InputError(
            f"{run}: results.json has the scores of step {results.get('best_step')}, but the best checkpoint is step "
            f"{step}. Run the train command of this run again, which finishes it and scores it anew."
        )
    config = public_config(translator.config)
    public_results = {name: value for name, value in results.items() if name != "history"}
    public_results |= {"config": dataclasses.asdict(config), "test": config.data.test}
    write_run(directory, config, translator.tokenizers, translator.params, step)
    atomic.write_text(directory / "results.json", json.dumps(public_results, indent=2, ensure_ascii=False) + "\n")
    for name in COPIED_FILES:
        if (run / name).exists():
            shutil.copyfile(run / name, directory / name)
    for name in TEST_TEXT_FILES if with_test_text else ():
        if not (run / name).exists():
            raise InputError(f"{run / name} is missing. Run the train command of this run again, or omit --test-text.")
        shutil.copyfile(run / name, directory / name)
    return public_results


def public_config(config: Config) -> Config:
    """Return the config without the directories of local files and without the queries of web addresses."""
    train, valid, test = map(public_name, (config.data.train, config.data.valid, config.data.test))
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, train=train, valid=valid, test=test),
        training=dataclasses.replace(config.training, init=public_name(config.training.init)),
    )


def public_name(locator: str) -> str:
    """Return a locator as it may be published: a URL without credentials, or the name of a local file."""
    is_local_dataset = locator.startswith(("hf:///", "hf://~"))
    if is_url(locator) and not is_local_dataset:
        return public_url(locator)
    return locator if locator.startswith("phrasebook") else Path(locator).name
