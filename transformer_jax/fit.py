"""The training loop: the only file that joins training to evaluation."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.experimental.multihost_utils import sync_global_devices
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from transformer_jax import atomic
from transformer_jax import config as configs
from transformer_jax.checkpoints import Checkpoints, Progress, best_step, load_params
from transformer_jax.config import Config, DataConfig
from transformer_jax.data.batches import EncodedPairs, encode_pairs
from transformer_jax.data.overlap import Overlap, count_overlap
from transformer_jax.data.pipeline import Share, TrainingBatches, evaluation_batches, training_iterator
from transformer_jax.data.prepared import prepared_pairs
from transformer_jax.data.sources import Pair, Pairs, open_pairs
from transformer_jax.data.tokenizers import Tokenizers, load_tokenizers, save_tokenizers, train_tokenizers
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError, Stopped
from transformer_jax.evaluation import score
from transformer_jax.failures import explained
from transformer_jax.interruption import Interruption
from transformer_jax.memory import require_memory
from transformer_jax.model.transformer import Transformer
from transformer_jax.nans import stops_at_nans
from transformer_jax.run_folder import require_contained
from transformer_jax.sharding import batch_sharding, make_mesh, placed, put_batch, row_divisor, state_shardings
from transformer_jax.training.journal import Journal, Window, means, read_journal
from transformer_jax.training.loss import LossSums
from transformer_jax.training.optimizer import learning_rate, make_optimizer
from transformer_jax.training.state import TrainState, initial_state
from transformer_jax.training.step import evaluate, make_train_step
from transformer_jax.workdir import only_run_in

MAY_CHANGE = (
    *(f"training.{name}" for name in ("steps", "patience", "log_every", "valid_every", "save_every", "max_skipped")),
    "mesh",
    "decoding",
)
"""Settings that a run may continue with changed; any other would make it a different run."""


class Corpus(NamedTuple):
    """The data of a run: training pairs as ids, validation and test pairs as text.

    overlap: of the test set with the training text; None if a later start left that alone.
    """

    tokenizers: Tokenizers
    train: EncodedPairs
    valid: Sequence[Pair]
    test: Sequence[Pair]
    overlap: Overlap | None


class Program(NamedTuple):
    """A training step that is yet to be compiled. state: its shapes, each with its sharding."""

    model: Transformer
    initialize: Callable[[], TrainState]
    state: TrainState
    train_step: Any


class Machinery(NamedTuple):
    """What the loop calls: jitted functions, and the objects that they were made from. state: as in ``Program``."""

    mesh: Mesh
    model: Transformer
    initialize: Callable[[], TrainState]
    state: TrainState
    train_step: Any
    evaluate: Any


BLOCK = 128
"""Validation sentences that are translated together: a signal waits for a block's end, not for all of them."""

RECORDED = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "tokenizers",
    "sacrebleu",
    "sacremoses",
)
"""Packages that results.json names with their versions."""

PROFILED = range(20, 25)
"""The updates of a process that a profile covers: a few, after the first ones, which compile."""


def fit(
    config: Config,
    workdir: Path,
    profile: Path | None = None,
    debug_nans: bool = False,
    recipe: Path | None = None,
) -> None:
    """Train in ``workdir`` until done, from where the last run there stopped; score the test set; write the results.

    profile: a folder for a trace of a few updates, which TensorBoard and Perfetto show; debug_nans: see
    ``stops_at_nans``; recipe: the file that the settings come from, for the record.
    Raises InputError for settings or data that cannot be used, before the first update, or if fewer updates are left
    than a profile needs; RunError for what goes wrong meanwhile; Stopped after SIGTERM or
    SIGINT.
    """
    began = time.monotonic()
    with explained(workdir), only_run_in(workdir):
        require_contained(workdir)
        require_same_settings(config, workdir)
        mesh = make_mesh(config.mesh)
        corpus = load_corpus(config, workdir)
        share = Share(jax.process_index(), jax.process_count())
        divisor = row_divisor(mesh) * config.training.accumulate
        checkpoints = Checkpoints(workdir / "checkpoints")
        planned = checkpoints.progress().divisor or divisor  # On other devices than it began on, a run keeps its plan.
        batches = TrainingBatches(corpus.train, config.data, config.training.seed, planned, share, divisor)
        require_rows(config, divisor, batches.shapes[-1].target)
        machinery = build(config, mesh, corpus.tokenizers)
        if debug_nans:
            machinery = machinery._replace(train_step=stops_at_nans(machinery.train_step))
        loop = Loop(config, workdir, corpus, machinery, batches, checkpoints, began, profile)
        if jax.process_index() == 0:  # Whatever may be refused has been: from here on there is a run.
            configs.save(config, workdir / "config.json")
        logging.info(
            f"{batches.batches_per_epoch} batches an epoch, {batches.padding():.1%} of the target positions are "
            f"padding, {len(batches.shapes)} shapes: {', '.join(f'{rows} x {s}/{t}' for rows, s, t in batches.shapes)}"
        )
        finish(config, workdir, corpus, loop.run(), recipe)


def require_same_settings(config: Config, workdir: Path) -> None:
    """Refuse a folder that holds a run with other settings, or one of which nobody knows the settings."""
    path = workdir / "config.json"
    if not path.exists() and any((workdir / "checkpoints").glob("[1-9]*")):
        raise InputError(f"{path} is missing, but there are checkpoints. Restore it, or name another --workdir.")
    if path.exists():
        earlier, now = (_flat(dataclasses.asdict(settings)) for settings in (configs.load(path), config))
        changed = [key for key in now if now[key] != earlier[key] and not key.startswith(MAY_CHANGE)]
        if changed:
            differences = ", ".join(f"{key} {earlier[key]} -> {now[key]}" for key in changed)
            raise InputError(f"{workdir} holds a run with other settings: {differences}. Name another --workdir.")


def _flat(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, values in settings.items() for key, value in values.items()}


def training_text(data: DataConfig) -> Pairs:
    """The training split, unread."""
    return open_pairs(data.train, data.source, data.target, "train", data.on_error)


def _overlap_read_again(test: Sequence[Pair], data: DataConfig) -> Overlap | None:
    """The overlap of a run that goes on, whose text this start has not read. A text that is gone costs no score."""
    try:
        return count_overlap(test, training_text(data))
    except (InputError, OSError) as error:
        logging.warning(f"how much of the test set stands in the training text is not known: {error}")
        return None


def load_corpus(config: Config, workdir: Path) -> Corpus:
    """Open the data; train the tokenizers on the training split, or load those that the run has.

    The text of the training split is read for that, and to prepare it (``data/prepared.py``); later starts leave it
    alone.
    """
    data = config.data
    text = cache(lambda: training_text(data))
    trained = (workdir / "config.json").exists()  # Written after them; without it they may be of other settings.
    valid = list(open_pairs(data.valid, data.source, data.target, "valid"))
    test = list(open_pairs(data.test, data.source, data.target, "test"))
    # Read once from end to end: what is wrong with the text is said before anything is written.
    overlap = None if trained else count_overlap(test, text())
    if jax.process_index() == 0 and not trained:
        sources, targets = (pair.source for pair in text()), (pair.target for pair in text())
        save_tokenizers(train_tokenizers(config.tokenizer, sources, targets), workdir)
    sync_global_devices("tokenizers")
    tokenizers = load_tokenizers(workdir)
    encoded, left_out, skipped = prepared_pairs(data, tokenizers, text)
    logging.info(
        f"{len(encoded) + left_out} training pairs ({left_out} left out: empty, or over {data.max_length} tokens"
        f"{f'; {skipped} bad rows skipped' if skipped else ''}), "
        f"{len(valid)} for validation, {len(test)} for the test; "
        f"vocabularies of {len(tokenizers.source)} and {len(tokenizers.target)}"
    )
    if overlap and overlap.sources:
        logging.warning(str(overlap))
    return Corpus(tokenizers, encoded, valid, test, overlap)


def require_rows(config: Config, parts: int, length: int) -> None:
    """Refuse a batch with fewer rows of ``length`` positions than parts to divide them into."""
    rows = config.data.batch_tokens // length
    if rows < parts:
        raise InputError(
            f"data.batch_tokens {config.data.batch_tokens} holds {rows} rows of {length} tokens, too few for {parts} "
            f"parts (mesh data x fsdp x training.accumulate). Use --data.batch-tokens {parts * length}, or at most "
            f"{rows} parts."
        )


def prepare(config: Config, mesh: Mesh, source_words: int, target_words: int, chunk: int | None = None) -> Program:
    """Jit the training step with its shardings: nothing is allocated or compiled. chunk: as in ``make_train_step``."""
    model = Transformer(config.model, source_words, target_words)
    training = config.training
    optimizer = make_optimizer(config.optimizer, config.model.d_model, training.steps)
    initialize = partial(initial_state, model, optimizer, training.seed, bool(training.ema))
    shapes = jax.eval_shape(initialize)
    shardings = state_shardings(mesh, shapes)
    train_step = jax.jit(
        make_train_step(model, optimizer, training, mesh, chunk),
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )
    return Program(model, initialize, placed(mesh, shapes), train_step)


def build(config: Config, mesh: Mesh, tokenizers: Tokenizers) -> Machinery:
    """Jit all that a run needs; nothing is allocated, and compiled when it is called. Raises InputError if the state
    does not fit the memory.
    """
    program = prepare(config, mesh, len(tokenizers.source), len(tokenizers.target))
    require_memory(mesh, program.state)
    shardings = state_shardings(mesh, program.state)
    initialize = jax.jit(program.initialize, out_shardings=shardings)
    evaluate_step = jax.jit(
        partial(evaluate, program.model, smoothing=config.training.label_smoothing),
        in_shardings=(shardings.params, batch_sharding(mesh)),
    )
    return Machinery(mesh, program.model, initialize, program.state, program.train_step, evaluate_step)


class Loop:
    """Updates, reports, validations and checkpoints, from where the last run in ``workdir`` stopped.

    step: updates completed; saved: the step of the last checkpoint.
    """

    def __init__(
        self,
        config: Config,
        workdir: Path,
        corpus: Corpus,
        machinery: Machinery,
        batches: TrainingBatches,
        checkpoints: Checkpoints,
        began: float,
        profile: Path | None,
    ) -> None:
        """began: the time.monotonic() at which the command started."""
        self.config, self.corpus, self.machinery = config, corpus, machinery
        self.workdir, self.profile = workdir, profile
        self.checkpoints = checkpoints
        self.iterator = training_iterator(batches)
        # One or the other: a run that takes half of the memory must be able to go on.
        self.state = checkpoints.restore(machinery.state) if checkpoints.latest_step() else machinery.initialize()
        self.progress = checkpoints.progress()._replace(divisor=batches.divisor)
        if self.progress.data is not None:
            self.iterator.set_state(self.progress.data)
            logging.info(f"continuing after step {int(self.state.step)}")
        self.step = self.first = self.saved = int(self.state.step)
        self.began = began - self.progress.seconds
        self.rate = learning_rate(config.optimizer, config.model.d_model, config.training.steps)
        self.window = Window(config.training.max_skipped, **(self.progress.window or {}))
        if profile and config.training.steps - self.first < PROFILED[-1]:
            raise InputError(
                f"--profile needs {PROFILED[-1]} updates, but only {config.training.steps - self.first} are left. "
                "Raise --training.steps."
            )

    def run(self) -> Progress:
        """All that is left. Raises Stopped, once everything is saved, if a signal came."""
        training = self.config.training
        with (
            Interruption() as self.interruption,  # The outermost: a signal also waits for the last checkpoint.
            self.checkpoints,
            closing(Journal(self.workdir, self.step, self.progress.validated)) as self.journal,
            closing(
                tqdm(total=training.steps, initial=self.step, unit="step", disable=None, mininterval=1)
            ) as self.bar,
        ):
            while not self.interruption.requested():
                at_end = self.step == training.steps
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
            raise Stopped(
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
        batch = put_batch(next(self.iterator), self.machinery.mesh)
        self.state, metrics = self.machinery.train_step(self.state, batch)
        if self.profile and self.step - self.first == PROFILED[-1]:
            jax.block_until_ready(self.state)
            jax.profiler.stop_trace()
            self.bar.write(f"{self.profile}: a trace of updates {self.first + PROFILED.start} to {self.step}")
        self.window.add(metrics)
        self.bar.update()

    def report(self) -> None:
        """Write the metrics since the last report."""
        self.window.gather(self.step)
        values = self.window.report()
        self.window = Window(self.config.training.max_skipped)
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
            values = validate(self.config, self.corpus, self.machinery, self.state, self.interruption.at_once)
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
    config: Config, corpus: Corpus, machinery: Machinery, state: TrainState, given_up: Callable[[], bool]
) -> dict[str, float] | None:
    """Loss over all validation pairs; sacreBLEU of greedy translations of the first ones. None once ``given_up``."""
    encoded, _ = encode_pairs(corpus.valid, corpus.tokenizers, max_length=None)
    share = Share(jax.process_index(), jax.process_count())
    batches = evaluation_batches(encoded, config.data.batch_tokens, row_divisor(machinery.mesh), share)
    sums = []
    for batch in batches:
        if given_up():
            return None
        sums.append(machinery.evaluate(state.best_params, put_batch(batch, machinery.mesh)))
    total = {name: float(sum(parts)) for name, parts in zip(LossSums._fields, zip(*sums, strict=True), strict=True)}
    pairs = corpus.valid[: config.training.valid_sentences]
    # Every process translates all of them with its own copy, and so all agree on the score.
    replicated = NamedSharding(machinery.mesh, PartitionSpec())
    params = jax.device_get(jax.jit(lambda tree: tree, out_shardings=replicated)(state.best_params))
    translator = Translator(config, corpus.tokenizers, params)
    translations: list[str] = []
    for start in range(0, len(pairs), BLOCK):
        if given_up():
            return None
        block = [pair.source for pair in pairs[start : start + BLOCK]]
        translations += [translation.text for translation in translator.translate(block, beam=1)]
    scores = score(translations, [pair.target for pair in pairs], config.data.target)
    return {**means(total), "bleu": scores["BLEU"].value, "chrf": scores["chrF"].value}


def hardware() -> dict[str, Any]:
    """Processor, cores and devices of this machine, for the record."""
    # platform.processor() is empty or a mere architecture on most Linux systems.
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
    }


def finish(config: Config, workdir: Path, corpus: Corpus, progress: Progress, recipe: Path | None) -> None:
    """Score the test set with the best checkpoint, write results.json, show five translations."""
    began = time.monotonic() - progress.seconds
    step = best_step(workdir / "checkpoints")
    params = load_params(workdir / "checkpoints", step)
    sources, references = [pair.source for pair in corpus.test], [pair.target for pair in corpus.test]
    translations = [one.text for one in Translator(config, corpus.tokenizers, params).translate(sources)]
    data = config.data
    scores = score(translations, references, data.target)
    overlap = corpus.overlap or _overlap_read_again(corpus.test, data)
    if jax.process_index():
        return
    speeds = [line["tokens_per_second"] for line in read_journal(workdir) if line["phase"] == "train"]
    results = {
        "recipe": recipe and recipe.stem,
        "config": dataclasses.asdict(config),
        "scores": {name: value._asdict() for name, value in scores.items()},
        "test": data.test,
        "overlap": overlap and overlap._asdict(),
        "training_pairs": len(corpus.train),
        "decoding": dataclasses.asdict(config.decoding),
        "best_step": step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "seed": config.training.seed,
        "wall_seconds": round(time.monotonic() - began, 1),
        "target_tokens_per_second": round(float(np.median(speeds)), 1) if speeds else None,
        "hardware": hardware(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in RECORDED},
        },
    }
    atomic.write_text(workdir / "results.json", json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    for source, reference, translation in list(zip(sources, references, translations, strict=True))[:5]:
        print(f"\nsource       {source}\nreference    {reference}\ntranslation  {translation}")
    for value in scores.values():
        print(f"\n{value.value:.2f}  {value.signature}", end="")
    if overlap and overlap.sources:
        print(f"\n\n{overlap}", end="")
    print(
        f"\n\nTest set: sacreBLEU {scores['BLEU'].value:.2f}, chrF {scores['chrF'].value:.2f}. Saved in {workdir}. Try:"
    )
    print(f'python translate.py "{sources[0]}" --workdir {workdir} --attention out/')
