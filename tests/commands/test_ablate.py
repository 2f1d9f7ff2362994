"""Head ablation: masked heads output zeros, nothing is compiled again, and the command saves the measurement."""

import dataclasses
import shutil
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import SOURCES, TARGETS

from transformer_jax import Translator
from transformer_jax.__main__ import dispatch
from transformer_jax.attention.head_importance import HeadImportance
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.head_ablation import full_mask, make_scorer, mask_heads, measure_head_importance
from transformer_jax.data.sources import Pair
from transformer_jax.decoding.translation import Translation

PAIRS = [Pair(*texts) for texts in zip(SOURCES[:4], TARGETS[:4], strict=True)]
COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


@pytest.fixture(scope="module")
def translator(tiny_run):
    return Translator.load(tiny_run)


def mask_without(translator, kind, layer, head):
    """Return a mask without one head."""
    mask = full_mask(translator.config.model)
    mask[kind][layer, head] = 0
    return mask


INPUTS = (
    jnp.asarray([[7, 9, 11, 13, 3]]),
    jnp.asarray([[2, 8, 10]]),
    jnp.ones((1, 5), jnp.int32),
    jnp.ones((1, 3), jnp.int32),
)


@pytest.mark.parametrize("collections", [[], ["intermediates"]])
@pytest.mark.parametrize(
    ("kind", "layer", "head", "module"),
    [
        ("encoder", 0, 1, ("encoder", "blocks_0", "self_attention")),
        ("decoder", 1, 0, ("decoder", "blocks_1", "self_attention")),
        ("cross", 0, 1, ("decoder", "blocks_0", "cross_attention")),
    ],
)
def test_masked_head_outputs_zeros(translator, kind, layer, head, module, collections):
    def zero_the_head(call, arguments, keywords, context):
        """Set the head's part of the input of W^O to zero: 7 of the 14 features."""
        if context.module.path == (*module, "w_output"):
            [x] = arguments
            arguments = (x.at[..., 7 * head : 7 * head + 7].set(0),)
        return call(*arguments, **keywords)

    def logits(params):
        return translator.model.apply({"params": params}, *INPUTS, mutable=collections)

    masked, sown = logits(mask_heads(translator.params, mask_without(translator, kind, layer, head)))
    with nn.intercept_methods(zero_the_head):
        zeroed, sown_when_zeroed = logits(translator.params)
    np.testing.assert_allclose(masked, zeroed, atol=1e-5)
    assert not np.allclose(masked, logits(translator.params)[0], atol=1e-3)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), sown, sown_when_zeroed)


def test_full_mask_leaves_the_parameters_unchanged(translator):
    params = mask_heads(translator.params, full_mask(translator.config.model))
    jax.tree.map(np.testing.assert_array_equal, params, translator.params)


@pytest.mark.parametrize("beam", [1, 3])
def test_masked_models_are_not_compiled_again(translator, beam):
    jax.clear_caches()  # Of tests before this one.
    compiled = []

    def listen(event, seconds, **_):
        if event == COMPILE_EVENT:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        score_model = make_scorer(translator, PAIRS, beam)
        score_model(full_mask(translator.config.model))
        assert compiled
        compiled.clear()
        for kind in ("encoder", "decoder", "cross"):
            for head in (0, 1):
                score_model(mask_without(translator, kind, 0, head))
        assert not compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_loss_is_the_mean_over_target_tokens(translator):
    """Compute the same loss one pair at a time, without batches, padding or chunks."""
    scores = make_scorer(translator, PAIRS, 1)(full_mask(translator.config.model))
    total, tokens = 0.0, 0
    for pair in PAIRS:
        [source], [target] = (
            translator.tokenizers.source.encode([pair.source]),
            translator.tokenizers.target.encode([pair.target]),
        )
        special = translator.tokenizers.target
        inputs, outputs = [special.sos_id, *target], [*target, special.eos_id]
        rows = [jnp.asarray([ids]) for ids in ([*source, translator.tokenizers.source.eos_id], inputs)]
        logits = translator.model.apply({"params": translator.params}, *rows, *map(jnp.ones_like, rows))
        total -= float(jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray([outputs])[..., None], -1).sum())
        tokens += len(outputs)
    assert scores.loss == pytest.approx(total / tokens, rel=1e-5)


def test_tokenized_references_are_detokenized_by_language(translator, monkeypatch):
    config = dataclasses.replace(translator.config, data=dataclasses.replace(translator.config.data, target="fr"))
    translation = Translation("L'eau de l'école est là .", 0.0, (), (), ())
    monkeypatch.setattr(Translator, "translate", lambda *_: [translation])
    pairs = [Pair("Is it here?", "L' eau de l' école est là .")]
    score_model = make_scorer(Translator(config, translator.tokenizers, translator.params), pairs, 1)
    assert score_model(full_mask(config.model)).bleu == pytest.approx(100)


def test_changes_are_reproducible_score_differences(translator):
    importance = measure_head_importance(translator, PAIRS, 1)
    score_model = make_scorer(translator, PAIRS, 1)
    complete = score_model(full_mask(translator.config.model))
    masked = score_model(mask_without(translator, "cross", 1, 0))
    assert importance.loss == complete.loss
    assert importance.bleu == complete.bleu
    assert importance.heads["cross"].loss[1, 0] == masked.loss - complete.loss != 0
    assert importance.heads["cross"].bleu[1, 0] == masked.bleu - complete.bleu
    assert importance.heads["encoder"].loss.shape == (1, 2)
    assert importance.heads["decoder"].bleu.shape == (2, 2)
    assert np.count_nonzero([*importance.heads["decoder"].loss, *importance.heads["encoder"].loss]) == 6


@pytest.fixture
def ablate(tiny_run, tmp_path, capfd):
    """Call the command on lines of text, and return its status, its output and its directory."""

    def call(*options, sources=SOURCES[:3], targets=TARGETS[:3], output=tmp_path):
        for name, lines in (("a.en", sources), ("a.de", targets)):
            (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        files = ["--input", str(tmp_path / "a.en"), "--reference", str(tmp_path / "a.de")]
        directory = [] if output is None else ["--output", str(output)]
        status = run_command(dispatch, ["ablate", *files, "--workdir", str(tiny_run), *directory, *options])
        return status, *capfd.readouterr(), tmp_path

    return call


def test_command_writes_a_file_a_picture_and_a_table(ablate):
    status, out, err, directory = ablate()
    assert status == 0, err
    importance = HeadImportance.load(directory / "ablation.json")
    assert (importance.sentences, importance.beam, importance.step) == (3, 1, 1)
    assert (directory / "ablation.png").stat().st_size > 1000
    first, blank, header, *rows = out.splitlines()
    assert first.startswith(f"3 sentences, beam 1: loss {importance.loss:.4f} nats per target token")
    assert (blank, header.split()) == ("", ["without", "head", "loss", "sacreBLEU"])
    assert len(rows) == 2 + 4 + 4
    top = importance.ranked_heads()[0]
    assert rows[0].split() == [
        top.kind, "layer", str(top.layer), str(top.head), f"{top.loss:+.4f}", f"{top.bleu:+.2f}"
    ]  # fmt: skip


def test_default_output_is_the_run_directory(ablate, tiny_run, tmp_path_factory):
    workdir = shutil.copytree(tiny_run, tmp_path_factory.mktemp("copy") / "run")
    assert ablate("--workdir", str(workdir), output=None)[0] == 0
    assert {path.name for path in workdir.glob("ablation.*")} == {"ablation.json", "ablation.png"}
    Translator.load(workdir)


def test_missing_run_error_names_the_run(tmp_path, capfd):
    for name in ("a.en", "a.de"):
        (tmp_path / name).write_text("a\n")
    files = ["--input", str(tmp_path / "a.en"), "--reference", str(tmp_path / "a.de")]
    assert run_command(dispatch, ["ablate", *files, "--workdir", "none"]) == 2
    assert "none is not a run directory" in capfd.readouterr().err


def test_long_lines_count_and_cause_one_warning(ablate):
    """The first line is a sentence of more than 16 tokens, so it is cut."""
    long = "the old dog and " * 9
    status, out, err, _ = ablate(sources=[long, SOURCES[0], "..."], targets=[" ".join(TARGETS[:3]), TARGETS[0], "..."])
    assert status == 0, err
    assert out.startswith("3 sentences")
    assert err.count("translated in") == 1
    assert err.count("no letters") == 1


@pytest.mark.parametrize(
    ("options", "lines", "message"),
    [
        ([], {"targets": TARGETS[:2]}, "a.de have different numbers of lines (3 and 2)"),
        ([], {"targets": [*TARGETS[:2], " "]}, "a.de:3 is blank but"),
        ([], {"sources": [], "targets": []}, "contains no sentence pairs"),
        (["--beam", "0"], {}, "--beam 0"),
        (["--input", "none.en"], {}, "none.en does not exist"),
        (["--output", "none"], {}, "cannot write to none: No such file"),
        (["--output", __file__], {}, "test_ablate.py: Not a directory"),
        (["--workdir", "none"], {}, "none is not a run directory"),
        (["--beem", "1"], {}, "Did you mean --beam?"),
    ],
)
def test_bad_input_is_one_line(ablate, options, lines, message):
    status, out, err, directory = ablate(*options, **lines)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
    assert message in err
    assert not list(directory.glob("ablation.*"))
