"""The training loop: the only file that joins training to evaluation."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from transformer_jax.config import Config, load_config, save_config
from transformer_jax.data.batches import encode_pairs
from transformer_jax.data.pipeline import Shard, TrainingBatches, evaluation_batches, training_iterator
from transformer_jax.decoding.search import BATCH_SIZES, max_parallel_batches
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError, StoppedBySignal
from transformer_jax.evaluation import score
from transformer_jax.runtime.failures import as_run_errors
from transformer_jax.runtime.memory import require_state_memory
from transformer_jax.runtime.preemption import PreemptionHandler
from transformer_jax.runtime.workdir_lock import exclusive_workdir
from transformer_jax.sharding import batch_multiple, batch_shard, make_mesh, put_batch
from transformer_jax.storage.checkpoints import Checkpoints, Progress
from transformer_jax.storage.untrusted import require_contained
from transformer_jax.training.compiled import CompiledFunctions, jit_functions, require_enough_rows
from transformer_jax.training.corpus import Corpus, load_corpus
from transformer_jax.training.debug_nans import check_nans
from transformer_jax.training.journal import MetricAccumulator, MetricsWriter, means
from transformer_jax.training.loss import LossSums
from transformer_jax.training.optimizer import learning_rate
from transformer_jax.training.results import finish
from transformer_jax.training.state import TrainState
from transformer_jax.training.warm_start import init_from_run

MAY_CHANGE = (
    *(f"training.{name}" for name in ("steps", "patience", "log_every", "valid_every", "save_every", "max_skipped")),
    "mesh",
    "decoding",
)
"""Settings that a run may continue with changed; any other would make it a different run."""

PROFILED = range(20, 25)
"""The updates of a process that a profile covers: a few, after the first ones, which compile."""


def fit(
    config: Config,
    workdir: Path,
    profile: Path | None = None,
    debug_nans: bool = False,
    recipe: str | None = None,
    translate: str = "python -m transformer_jax translate",
) -> None:
    """Train in ``workdir`` until done, from where the last run there stopped; score the test set; write the results.

    profile: a folder for a trace of a few updates, which TensorBoard and Perfetto show; debug_nans: see
    ``check_nans``; recipe: the name of the recipe that the settings come from, for the record; translate: the
    command to print for a first translation.
    Raises InputError for settings or data that cannot be used, before the first update, or if fewer updates are left
    than a profile needs; RunError for what goes wrong meanwhile; StoppedBySignal after SIGTERM or
    SIGINT.
    """
    began = time.monotonic()
    with as_run_errors(workdir), exclusive_workdir(workdir):
        require_contained(workdir)
        require_same_config(config, workdir)
        mesh = make_mesh(config.mesh)
        corpus = load_corpus(config, workdir)
        shard = Shard(*batch_shard(mesh))
        multiple = batch_multiple(mesh) * config.training.accumulate
        checkpoints = Checkpoints(workdir / "checkpoints")
        earlier = checkpoints.progress()
        require_same_corpus(earlier, corpus, workdir)
        planned = earlier.divisor or multiple  # On other devices than it began on, a run keeps its plan.
        batches = TrainingBatches(corpus.train, config.data, config.training.seed, planned, shard, multiple)
        require_enough_rows(config, multiple, batches.shapes[-1].target)
        functions = jit_functions(config, mesh, *map(len, corpus.tokenizers))
        require_state_memory(mesh, functions.state)
        if debug_nans:
            functions = functions._replace(train_step=check_nans(functions.train_step))
        loop = Loop(config, workdir, corpus, functions, batches, checkpoints, began, profile)
        if jax.process_index() == 0:  # Whatever may be refused has been: from here on there is a run.
            save_config(config, workdir / "config.json")
        logging.info(
            f"{batches.batches_per_epoch} batches an epoch, {batches.padding():.1%} of the target positions are "
            f"padding, {len(batches.shapes)} shapes: {', '.join(f'{rows} x {s}/{t}' for rows, s, t in batches.shapes)}"
        )
        finish(config, workdir, corpus, loop.run(), recipe, translate)


def require_same_config(config: Config, workdir: Path) -> None:
    """Refuse a folder that holds a run with other settings, or one of which nobody knows the settings."""
    path = workdir / "config.json"
    if not path.exists() and any((workdir / "checkpoints").glob("[1-9]*")):
        raise InputError(f"{path} is missing, but there are checkpoints. Restore it, or name another --workdir.")
    if path.exists():
        earlier, now = (_flat(dataclasses.asdict(settings)) for settings in (load_config(path), config))
        changed = [key for key in now if now[key] != earlier[key] and not key.startswith(MAY_CHANGE)]
        if changed:
            differences = ", ".join(f"{key} {earlier[key]} -> {now[key]}" for key in changed)
            raise InputError(f"{workdir} holds a run with other settings: {differences}. Name another --workdir.")


def require_same_corpus(earlier: Progress, corpus: Corpus, workdir: Path) -> None:
    """Refuse to go on with other training text under the same name: the position in it would mean nothing."""
    if earlier.corpus is not None and earlier.corpus != size_of(corpus):
        (before, *_), (now, *_) = earlier.corpus, size_of(corpus)
        raise InputError(
            f"{workdir} holds a run on other training text: {before} pairs then, {now} now, or other words in them. "
            "Restore the text, or name another --workdir."
        )


def size_of(corpus: Corpus) -> list[int]:
    """Pairs, source tokens and target tokens of the training text."""
    return [len(corpus.train), *(int(lengths.sum()) for lengths in corpus.train.lengths())]


def _flat(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, values in settings.items() for key, value in values.items()}


class Loop:
    """Updates, reports, validations and checkpoints, from where the last run in ``workdir`` stopped.

    step: updates completed; saved: the step of the last checkpoint.
    """

    def __init__(
        self,
        config: Config,
        workdir: Path,
        corpus: Corpus,
        functions: CompiledFunctions,
        batches: TrainingBatches,
        checkpoints: Checkpoints,
        began: float,
        profile: Path | None,
    ) -> None:
        """began: the time.monotonic() at which the command started."""
        self.config, self.corpus, self.functions = config, corpus, functions
        self.workdir, self.profile = workdir, profile
        self.checkpoints = checkpoints
        self.iterator = training_iterator(batches)
        # One or the other: a run that takes half of the memory must be able to go on.
        if checkpoints.latest_step():
            self.state = checkpoints.restore(functions.state)
        else:
            self.state = functions.initialize()
            if config.training.init:
                self.state = init_from_run(Path(config.training.init), self.state)
        self.progress = checkpoints.progress()._replace(divisor=batches.batch_multiple, corpus=size_of(corpus))
        if self.progress.data is not None:
            self.iterator.set_state(self.progress.data)
            logging.info(f"continuing after step {int(self.state.step)}")
        self.step = self.first = self.saved = int(self.state.step)
        self.began = began - self.progress.seconds
        self.rate = learning_rate(config.optimizer, config.model.d_model, config.training.steps)
        self.window = MetricAccumulator(config.training.max_skipped, **(self.progress.window or {}))
        if profile and config.training.steps - self.first < PROFILED[-1]:
            raise InputError(
                f"--profile needs {PROFILED[-1]} updates, but only {config.training.steps - self.first} are left. "
                "Raise --training.steps."
            )

    def run(self) -> Progress:
        """All that is left. Raises StoppedBySignal, once everything is saved, if a signal came."""
        training = self.config.training
        with (
            PreemptionHandler() as self.interruption,  # The outermost: a signal also waits for the last checkpoint.
            self.checkpoints,
            closing(MetricsWriter(self.workdir, self.step, self.progress.validated)) as self.journal,
            closing(
                tqdm(total=training.steps, initial=self.step, unit="step", disable=None, mininterval=1)
            ) as self.bar,
        ):
            while not self.interruption.requested():
                at_end = self.step >= training.steps
                if self.progress.validated < self.step and (self.step % training.valid_every == 0 or at_end):
                    self.validate()
                    continue
                if self.saved < self.step and training.save_every and self.step % training.save_every == 0:
                    self.save()
                if at_end or self.progress.is_stale(training.patience):
                    break
                self.update()
                if self.step % training.log_every == 0:
                    self.report()
            stopped = bool(self.interruption.signal)
            if self.saved < self.step:
                self.save()
        if stopped or self.interruption.at_once():
            raise StoppedBySignal(
                f"{self.interruption.name}: update {self.step} of {training.steps} is saved. Give the same command "
                f"again to go on with {self.workdir}.",
                self.interruption.signal or self.interruption.noted,
            )
        return self.progress

    def update(self) -> None:
        """One step of the optimizer."""
        self.step += 1
        if self.profile and self.step - self.first == PROFILED.start:
            jax.profiler.start_trace(str(self.profile))
        batch = put_batch(next(self.iterator), self.functions.mesh)
        self.state, metrics = self.functions.train_step(self.state, batch)
        if self.profile and self.step - self.first == PROFILED[-1]:
            jax.block_until_ready(self.state)
            jax.profiler.stop_trace()
            self.bar.write(f"{self.profile}: a trace of updates {self.first + PROFILED.start} to {self.step}")
        self.window.add(metrics)
        # A device has its next step when it is done with one, and no more: a signal waits for all of them to end.
        jax.block_until_ready(self.window.metrics[-2:-1])
        self.bar.update()

    def report(self) -> None:
        """Write the metrics since the last report."""
        self.window.gather(self.step)
        values = self.window.report()
        self.window = MetricAccumulator(self.config.training.max_skipped)
        # Skipped updates leave the optimizer's count, which the schedule goes by, behind the step.
        [(_, applied), *_] = optax.tree_utils.tree_get_all_with_path(self.state.optimizer, "count")
        self.journal.write(self.step, "train", {**values, "learning_rate": float(self.rate(applied - 1))})
        self.bar.set_postfix_str(f"loss {values.get('loss', math.nan):.3f}, {values['tokens_per_second']:.0f} tokens/s")
        self.checkpoints.check()

    def validate(self) -> None:
        """Score the parameters as they are, and save; neither, if a signal comes meanwhile.

        What fails here, such as compiling, costs no update. It may fail because of the signal: schedulers send it to
        every process of a job, and a compiler's ends.
        """
        began = time.monotonic()
        try:
            values = validate(self.config, self.corpus, self.functions, self.state, self.interruption.at_once)
        except Exception:
            if self.interruption.at_once():
                return
            if jax.process_count() == 1:  # Others would not take part.
                self.save()
            raise
        self.window.pause(time.monotonic() - began)
        if values is None:
            return
        self.progress = self.progress.after(self.step, values["bleu"])
        self.journal.write(self.step, "valid", values)
        self.save()
        self.bar.write(
            f"step {self.step}: validation loss {values['loss']:.3f}, sacreBLEU {values['bleu']:.2f}"
            f"{' (best)' if self.progress.best_step == self.step else ''}, {self.progress.seconds / 60:.1f} min"
        )

    def save(self) -> None:
        """Start saving all that the run needs to go on from here."""
        self.window.gather(self.step)
        self.progress = self.progress._replace(
            seconds=time.monotonic() - self.began, window=self.window.saved(), data=self.iterator.get_state()
        )
        self.checkpoints.save(self.state, self.progress)
        self.saved = self.step


def validate(
    config: Config, corpus: Corpus, functions: CompiledFunctions, state: TrainState, given_up: Callable[[], bool]
) -> dict[str, float] | None:
    """Loss over all validation pairs; sacreBLEU of greedy translations of the first ones. None once ``given_up``."""
    encoded, _ = encode_pairs(corpus.valid, corpus.tokenizers, max_length=None)
    shard = Shard(*batch_shard(functions.mesh))
    batches = evaluation_batches(encoded, config.data.batch_tokens, batch_multiple(functions.mesh), shard)
    sums = []
    for batch in batches:
        if given_up():
            return None
        sums.append(functions.loss_sums(state.eval_params, put_batch(batch, functions.mesh)))
    total = {name: float(sum(parts)) for name, parts in zip(LossSums._fields, zip(*sums, strict=True), strict=True)}
    pairs = corpus.valid[: config.training.valid_sentences]
    # Every process translates all of them with its own copy, and so all agree on the score.
    replicated = NamedSharding(functions.mesh, PartitionSpec())
    params = jax.device_get(jax.jit(lambda tree: tree, out_shardings=replicated)(state.eval_params))
    translator = Translator(config, corpus.tokenizers, params)
    translations: list[str] = []
    together = BATCH_SIZES[-1] * max(2, max_parallel_batches())  # A signal waits for their end, not for all pairs.
    for start in range(0, len(pairs), together):
        if given_up():
            return None
        block = [pair.source for pair in pairs[start : start + together]]
        found = translator.translate_n_best(block, 1, beam=1, first=start + 1)
        translations += [best.text for [best] in found]
    scores = score(translations, [pair.target for pair in pairs], config.data.target)
    return {**means(total), "bleu": scores["BLEU"].value, "chrf": scores["chrF"].value}
