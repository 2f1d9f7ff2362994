"""The training loop, with validation, reports and checkpoints."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from pathlib import Path

import jax
import optax

from transformer_jax.config import Config, save_config
from transformer_jax.data.batches import BatchShape
from transformer_jax.data.pipeline import Shard, TrainingBatches, training_iterator
from transformer_jax.errors import InputError, StoppedBySignal
from transformer_jax.evaluation import check_evaluation
from transformer_jax.mirror.mirrored_workdir import mirrored_workdir
from transformer_jax.mirror.uploader import Uploader
from transformer_jax.model.fused_attention import require_kernel
from transformer_jax.runtime.agreement import require_agreement
from transformer_jax.runtime.dtype_support import check_dtype_support
from transformer_jax.runtime.failures import as_run_errors
from transformer_jax.runtime.memory import require_state_memory
from transformer_jax.runtime.preemption import PreemptionHandler
from transformer_jax.runtime.workdir_lock import exclusive_workdir
from transformer_jax.sharding import batch_multiple, batch_shard, make_mesh, put_batch
from transformer_jax.storage.checkpoints import Checkpoints, Progress
from transformer_jax.storage.untrusted import require_contained
from transformer_jax.training.background import VALIDATION_TASKS, BackgroundCompiler, compile_ahead, is_worthwhile
from transformer_jax.training.choice import Validation, describe_end, record_validation
from transformer_jax.training.compiled import CompiledFunctions, jit_functions, require_enough_rows
from transformer_jax.training.corpus import Corpus, load_corpus
from transformer_jax.training.curves import CurvesWriter
from transformer_jax.training.debug_nans import check_nans
from transformer_jax.training.journal import MetricAccumulator, MetricsWriter, read_validations
from transformer_jax.training.optimizer import learning_rate
from transformer_jax.training.progress_display import ProgressDisplay
from transformer_jax.training.results import finish_run
from transformer_jax.training.resumption import (
    corpus_size,
    require_enough_steps,
    require_same_config,
    require_same_corpus,
    resumed_row_lengths,
)
from transformer_jax.training.validation import score_validation_set
from transformer_jax.training.warm_start import init_from_run

PROFILED_UPDATES = range(20, 25)
"""Updates that a profile covers, counted from the start of the process. The first updates are excluded because they
compile."""


def fit(
    config: Config,
    workdir: Path,
    profile: Path | None = None,
    debug_nans: bool = False,
    recipe: str | None = None,
    translate_command: str = "python -m transformer_jax translate",
    mirror: str = "",
) -> None:
    """Train a model in ``workdir``, or resume the run there. Then score the test set and write results.json.

    profile: directory for a trace of a few updates, for TensorBoard or Perfetto.
    debug_nans: whether to stop at the first NaN, see ``check_nans``.
    recipe: name of the recipe, for results.json.
    translate_command: start of the translation command that is printed at the end.
    mirror: location of a copy of the run directory, see ``mirrored_workdir``; empty for none.
    Raises InputError before the first update if the config or the data are invalid.
    Raises RunError if training fails.
    Raises StoppedBySignal after SIGTERM or SIGINT.
    """
    began = time.monotonic()
    check_evaluation(config)
    with (
        as_run_errors(workdir),
        exclusive_workdir(workdir),
        mirrored_workdir(workdir, mirror, lambda copy: require_same_config(config, copy, mirror)) as uploader,
        closing(BackgroundCompiler()) as compiler,
    ):
        require_contained(workdir)
        require_same_config(config, workdir)
        checkpoints = Checkpoints(workdir / "checkpoints")
        require_enough_steps(config, checkpoints.latest_step() or 0, workdir)
        if uploader:
            uploader.start()
        mesh = make_mesh(config.mesh)
        check_dtype_support(config.model.dtype, jax.local_devices()[0])
        require_kernel(config.model, mesh.devices.flat[0], mesh.shape["tensor"])
        logging.info("reading the training, validation and test data ...")
        corpus = load_corpus(config, workdir)
        shard = Shard(*batch_shard(mesh))
        multiple = batch_multiple(mesh) * config.training.accumulate
        progress = checkpoints.progress()
        contents = {"newest checkpoint": checkpoints.latest_step(), **progress._asdict()}
        require_agreement("run directories", {name: str(value) for name, value in contents.items()})
        require_same_corpus(progress, corpus, workdir)
        planned_multiple = progress.divisor or multiple  # A run keeps its batches when it resumes on other devices.
        batches = TrainingBatches(
            corpus.train,
            config.data,
            config.training.seed,
            planned_multiple,
            shard,
            multiple,
            resumed_row_lengths(config, progress),
        )
        require_enough_rows(config, multiple, batches.shapes[-1].target)
        functions = jit_functions(config, mesh, *map(len, corpus.tokenizers))
        require_state_memory(mesh, functions.state)
        if debug_nans:
            functions = functions._replace(train_step=check_nans(functions.train_step))
        if is_worthwhile() and (checkpoints.latest_step() or 0) < config.training.steps:
            compile_ahead(compiler, config, corpus, functions, batches.global_shapes())
        loop = TrainingLoop(
            config, workdir, corpus, functions, batches, compiler, checkpoints, began, profile, uploader
        )
        if jax.process_index() == 0:  # Saved after all checks: config.json marks the directory as a run.
            corpus.texts.save(workdir)
            save_config(config, workdir / "config.json")
        shapes = ", ".join(f"{rows} x {source}/{target}" for rows, source, target in batches.shapes)
        logging.info(
            f"{batches.batches_per_epoch} batches per epoch, {batches.padding_fraction():.1%} of the target positions "
            f"are padding, {len(batches.shapes)} batch shape{'s' if len(batches.shapes) > 1 else ''}: {shapes}"
        )
        finish_run(config, workdir, corpus, loop.run(), recipe, translate_command)


class TrainingLoop:
    """Updates, reports, validations and checkpoints of a run, starting at its last checkpoint.

    step: number of completed updates.
    first_step: step at which this process started.
    saved_step: step of the last checkpoint.
    """

    def __init__(
        self,
        config: Config,
        workdir: Path,
        corpus: Corpus,
        functions: CompiledFunctions,
        batches: TrainingBatches,
        compiler: BackgroundCompiler,
        checkpoints: Checkpoints,
        began: float,
        profile: Path | None,
        uploader: Uploader | None,
    ) -> None:
        """Create the first training state, or restore the last checkpoint.

        began: time.monotonic() at the start of the command.
        profile: see ``fit``.
        uploader: the uploads to the mirror, if there is one.
        Raises InputError if fewer updates are left than a profile needs.
        """
        self.config, self.corpus, self.functions = config, corpus, functions
        self.workdir, self.profile = workdir, profile
        self.batches, self.compiler = batches, compiler
        self.checkpoints, self.uploader = checkpoints, uploader
        self.curves = CurvesWriter(workdir)
        self.iterator = training_iterator(batches)
        # Never both states: one may take more than half of the memory.
        if checkpoints.latest_step():
            self.state = checkpoints.restore(functions.state)
        else:
            self.state = functions.initialize()
            if config.training.init:
                self.state = init_from_run(Path(config.training.init), self.state)
        self.progress = checkpoints.progress()._replace(
            divisor=batches.batch_multiple, corpus=corpus_size(corpus), row_lengths=list(batches.packed_rows)
        )
        if self.progress.data is not None:
            self.iterator.set_state(self.progress.data)
            logging.info(f"resuming after step {int(self.state.step)}")
        self.step = self.first_step = self.saved_step = int(self.state.step)
        self.began = began - self.progress.seconds
        self.learning_rate = learning_rate(config.optimizer, config.model.d_model, config.training.steps)
        self.accumulator = MetricAccumulator(config.training.max_skipped, **(self.progress.window or {}))
        updates_left = config.training.steps - self.first_step
        if profile and updates_left < PROFILED_UPDATES[-1]:
            raise InputError(
                f"--profile needs {PROFILED_UPDATES[-1]} updates, but the number of updates left is {updates_left}. "
                f"Set --training.steps to at least {self.first_step + PROFILED_UPDATES[-1]}."
            )

    def run(self) -> Progress:
        """Train until the end and return the final progress.

        Raises StoppedBySignal after a signal, once everything is saved.
        """
        training = self.config.training
        with (
            PreemptionHandler() as self.preemption,  # Outermost, so that a signal also waits for the last checkpoint.
            self.checkpoints,
            closing(MetricsWriter(self.workdir, self.step, self.progress.validated)) as self.writer,
            closing(ProgressDisplay(training.steps, self.step, self.batches.batches_per_epoch)) as self.display,
        ):
            self.curves.write(self.progress.best_step)  # A kill may have come between a validation and its curves.
            while not self.preemption.should_stop():
                at_end = self.step >= training.steps
                if self.progress.validated < self.step and (self.step % training.valid_every == 0 or at_end):
                    self.validate()
                    continue
                if self.saved_step < self.step and training.save_every and self.step % training.save_every == 0:
                    self.save()
                if at_end or self.progress.is_stale(training.patience):
                    break
                self.update()
                if self.step % training.log_every == 0:
                    self.report()
            stopped = bool(self.preemption.stop_signal)
            if self.saved_step < self.step:
                self.save()
            if not (stopped or self.preemption.should_abort()):
                end = describe_end(self.progress, self.step, training.steps, read_validations(self.workdir))
                self.display.write(end)
        if stopped or self.preemption.should_abort():
            raise StoppedBySignal(
                f"{self.preemption.signal_name}: update {self.step} of {training.steps} is saved. Run the same command "
                f"again to resume the run in {self.workdir}.",
                self.preemption.stop_signal or self.preemption.received,
            )
        return self.progress

    def update(self) -> None:
        """Run one training step."""
        if self.step == self.first_step:
            self.display.announce_compilation(len(self.batches.shapes))
        self.step += 1
        if self.profile and self.step - self.first_step == PROFILED_UPDATES.start:
            jax.profiler.start_trace(str(self.profile))
        batch = put_batch(next(self.iterator), self.functions.mesh)
        self.compiler.wait(BatchShape(len(batch.source), batch.source.shape[1], batch.target_input.shape[1]))
        self.state, metrics = self.functions.train_step(self.state, batch)
        if self.profile and self.step - self.first_step == PROFILED_UPDATES[-1]:
            jax.block_until_ready(self.state)
            jax.profiler.stop_trace()
            first_profiled = self.first_step + PROFILED_UPDATES.start
            self.display.write(f"{self.profile}: trace of updates {first_profiled} to {self.step}")
        self.accumulator.add(metrics)
        # Queue only one step ahead. That keeps the devices busy, and a signal has to wait for all queued steps.
        jax.block_until_ready(self.accumulator.pending[-2:-1])
        self.display.advance()

    def report(self) -> None:
        """Write the metrics since the last report."""
        self.accumulator.fetch(self.step)
        values = self.accumulator.report()
        self.accumulator = MetricAccumulator(self.config.training.max_skipped)
        # The schedule depends on the optimizer's count of updates, which does not include skipped ones.
        [(_, count), *_] = optax.tree_utils.tree_get_all_with_path(self.state.optimizer, "count")
        values["learning_rate"] = float(self.learning_rate(count - 1))
        if self.state.loss_scale is not None:
            values["loss_scale"] = float(self.state.loss_scale.value)
        self.writer.write(self.step, "train", values)
        self.display.report(values, self.uploader.status() if self.uploader else "")
        self.checkpoints.check()

    def validate(self) -> None:
        """Score the validation set and save a checkpoint. Do neither if a signal interrupts the scoring.

        If the scoring fails, for example while compiling, save the updates before raising the error.
        """
        began = time.monotonic()
        try:
            for task in VALIDATION_TASKS:
                self.compiler.wait(task)
            result = score_validation_set(
                self.config, self.corpus, self.functions, self.state, self.preemption.should_abort
            )
        except Exception:
            # The signal may be the cause: a scheduler sends it to all processes of a job, including compilers.
            if self.preemption.should_abort():
                return
            if jax.process_count() == 1:  # Saving needs all processes, but only this one may have failed.
                self.save()
            raise
        if result is not None:
            self.record_validation(*result)
        self.accumulator.exclude_time(time.monotonic() - began)
        if result is not None:
            self.save()

    def record_validation(self, values: dict[str, float], translations: list[str]) -> None:
        """Update the best step, and write the results of a validation to all files but the checkpoint.

        A run that is killed before the next checkpoint repeats the validation, and writes the same files again.
        """
        loss, bleu = values["loss"], values["bleu"]
        self.progress = record_validation(self.progress, Validation(self.step, loss, bleu))
        self.writer.write(self.step, "valid", values)
        self.writer.write_translations(self.step, self.corpus.valid[: len(translations)], translations)
        self.curves.write(self.progress.best_step)
        self.display.write(
            f"step {self.step}: validation loss {loss:.3f}, sacreBLEU {bleu:.2f}"
            f"{' (best)' if self.progress.best_step == self.step else ''}, "
            f"{(time.monotonic() - self.began) / 60:.1f} min"
        )

    def save(self) -> None:
        """Start saving a checkpoint in the background."""
        self.accumulator.fetch(self.step)
        self.progress = self.progress._replace(
            seconds=time.monotonic() - self.began,
            window=self.accumulator.snapshot(),
            data=self.iterator.get_state(),
        )
        self.checkpoints.save(self.state, self.progress)
        self.saved_step = self.step
