"""A small run: what it writes, and which configs and data it refuses."""

import dataclasses
import json
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.profiler import ProfileData
from number_words import WORDS, metrics_lines

from transformer_jax.config import MeshConfig, OptimizerConfig
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError, RunError
from transformer_jax.runtime import memory
from transformer_jax.storage.checkpoints import load_params
from transformer_jax.training import loop
from transformer_jax.training.validation import ScoredValidation


def test_metrics_are_written_at_the_configured_steps(finished_run):
    lines = metrics_lines(finished_run)
    assert [line["step"] for line in lines if line["phase"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in lines if line["phase"] == "valid"] == [4, 8, 12]
    losses = [line["loss"] for line in lines if line["phase"] == "train"]
    assert losses[-1] < losses[0]


def test_a_finished_run_translates(finished_run):
    [translation] = Translator.load(finished_run).translate(["1 2"])
    assert set(translation.text.split()) <= set(WORDS)


def test_a_profile_is_a_trace_with_training_steps(make_config, tmp_path):
    loop.fit(make_config(steps=24), tmp_path / "run", profile=tmp_path / "profile")
    [trace] = (tmp_path / "profile").rglob("*.xplane.pb")
    planes = ProfileData.from_file(str(trace)).planes
    names = {event.name for plane in planes for line in plane.lines for event in line.events}
    assert any("train_step" in name for name in names)


def test_a_run_too_short_for_a_profile_is_refused(make_config, tmp_path):
    with pytest.raises(
        InputError, match=r"24 updates, but the number of updates left is 12\. Set --training\.steps to at least 24\."
    ):
        loop.fit(make_config(), tmp_path / "run", profile=tmp_path / "profile")


@pytest.mark.filterwarnings("ignore:Sharding info not provided")  # The test restores with orbax's defaults.
def test_the_average_of_the_best_step_is_loaded(finished_run):
    best = json.loads((finished_run / "results.json").read_text())["best_step"]
    saved = ocp.PyTreeCheckpointer().restore(finished_run.absolute() / "checkpoints" / str(best) / "state")
    loaded = load_params(finished_run / "checkpoints")
    jax.tree.map(np.testing.assert_array_equal, loaded, saved["average"])


def test_at_most_one_update_is_queued(make_config, tmp_path, monkeypatch):
    real = loop.jit_functions
    losses, waiting = [], []

    def jit_functions(*arguments):
        functions = real(*arguments)

        def train_step(state, batch):
            waiting.append(sum(not loss.is_ready() for loss in losses))
            state, metrics = functions.train_step(state, batch)
            metrics["loss"] = delayed(metrics["loss"])
            losses.append(metrics["loss"])
            return state, metrics

        return functions._replace(train_step=train_step)

    @jax.jit
    def delayed(loss):
        return jax.pure_callback(lambda value: (time.sleep(0.1), value)[1], loss, loss)

    monkeypatch.setattr(loop, "jit_functions", jit_functions)
    loop.fit(make_config(log_every=12, valid_every=12), tmp_path / "run")
    assert max(waiting) == 1


def test_repeated_nan_updates_stop_the_run(make_config, tmp_path):
    config = dataclasses.replace(make_config(max_skipped=3), optimizer=OptimizerConfig(warmup=10, factor=1e30))
    with pytest.raises(RunError, match=r"not been finite since update 2, so training stops at update 4 .*--debug-nans"):
        loop.fit(config, tmp_path / "run")
    assert metrics_lines(tmp_path / "run")[0]["skipped"] == 1
    with pytest.raises(RunError, match=r"update 2: invalid value \(nan\) .* at .*transformer_jax/.*\.py:\d+, in "):
        loop.fit(config, tmp_path / "run", debug_nans=True)


def replace_scores(monkeypatch, scores):
    """Replace the scores of the validations: step -> loss and BLEU."""

    def score_validation_set(*arguments):
        loss, bleu = scores[int(arguments[3].step)]
        return ScoredValidation({"loss": loss, "bleu": bleu}, ["eins", "zwei"])

    monkeypatch.setattr(loop, "score_validation_set", score_validation_set)


def test_early_stopping_after_patience_validations(make_config, tmp_path, monkeypatch, capsys):
    replace_scores(monkeypatch, {4: (1.0, 5.0), 8: (0.9, 4.0), 12: (0.8, 4.0)})
    loop.fit(make_config(steps=40, patience=2), tmp_path / "run")
    assert [line["step"] for line in metrics_lines(tmp_path / "run") if line["phase"] == "valid"] == [4, 8, 12]
    assert "no better score for 2 validations: best step 4, BLEU 5.00\n" in capsys.readouterr().err


def test_the_loss_decides_while_bleu_is_not_informative(make_config, tmp_path, monkeypatch, capsys):
    replace_scores(monkeypatch, {4: (3.0, 0.4), 8: (2.0, 0.0), 12: (1.0, 0.2), 16: (1.5, 0.6), 20: (1.2, 0.9)})
    loop.fit(make_config(steps=40, patience=2), tmp_path / "run")
    assert "no better score for 2 validations: best step 12, validation loss 1.000\n" in capsys.readouterr().err
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert (results["best_step"], results["chosen_by"]) == (12, "loss")
    assert results["validations"][-1] == {"step": 20, "loss": 1.2, "bleu": 0.9}


def test_the_last_two_and_the_best_checkpoints_are_kept(make_config, tmp_path, monkeypatch):
    scores = {4: 1.0, 8: 7.0, 12: 2.0, 16: 3.0, 20: 2.5}
    replace_scores(monkeypatch, {step: (1.0, bleu) for step, bleu in scores.items()})
    loop.fit(make_config(steps=20), tmp_path / "run")
    steps = {int(path.name) for path in (tmp_path / "run/checkpoints").iterdir() if path.name.isdigit()}
    assert steps == {8, 16, 20}
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert (results["best_step"], results["chosen_by"]) == (8, "bleu")


def test_a_corpus_of_only_long_pairs_is_refused(make_config, tmp_path):
    (tmp_path / "long.tsv").write_text("1 2 3\teins zwei drei\n" * 5)
    config = make_config()
    data = dataclasses.replace(config.data, train=str(tmp_path / "long.tsv"), max_length=3)
    with pytest.raises(InputError, match=r"Raise --data\.max-length"):
        loop.fit(dataclasses.replace(config, data=data), tmp_path / "run")


def test_a_batch_with_too_few_rows_is_refused(make_config, tmp_path):
    # 512 tokens are 32 rows of 16 tokens, but 8 devices x 16 accumulated batches need 128.
    message = r"rows of 16 tokens in .* is 32, but must be at least 128 .*Set --data\.batch-tokens to at least 2048, or"
    with pytest.raises(InputError, match=message):
        loop.fit(make_config(accumulate=16), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_state_that_exceeds_the_memory_is_refused(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: 20_000)
    with pytest.raises(InputError, match=r"needed per device, 0\.00 GiB available\. Use --mesh.data -1 --mesh.fsdp"):
        loop.fit(make_config(), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_out_of_memory_is_one_line_with_remedies(make_config, tmp_path, monkeypatch):
    def fail(*arguments):
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(loop, "jit_functions", fail)
    message = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.\nLargest allocations:"
    with pytest.raises(RunError, match=r"--data\.batch-tokens.*--training\.accumulate.*--mesh\.fsdp") as error:
        loop.fit(make_config(), tmp_path / "run")
    assert "\n" not in str(error.value)
    message = "INTERNAL: something else"
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        loop.fit(make_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_refused_start_leaves_no_run_directory(make_config, tmp_path):
    config = make_config()
    no_data = dataclasses.replace(config, data=dataclasses.replace(config.data, train=str(tmp_path / "missing.tsv")))
    no_mesh = dataclasses.replace(config, mesh=MeshConfig(data=3))
    no_rows = make_config(accumulate=16)
    no_kernel = dataclasses.replace(no_data, model=dataclasses.replace(config.model, attention="pallas"))
    for invalid, profile, message in (
        (no_data, None, "missing.tsv"),
        (no_mesh, None, "whose product is 8"),
        (no_rows, None, "accumulate"),
        (no_kernel, None, r"^model\.attention pallas needs a TPU, not cpu\. Set --model\.attention xla\.$"),
        (config, tmp_path / "profile", "profile"),
    ):
        with pytest.raises(InputError, match=message):
            loop.fit(invalid, tmp_path / "run", profile)
        assert not (tmp_path / "run").exists()
