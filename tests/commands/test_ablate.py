"""Masking a head is what it claims to be, and costs no compilation; the command measures it and keeps it."""

import dataclasses
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import SOURCES, TARGETS, tiny_run  # noqa: F401

from transformer_jax import Translator
from transformer_jax.__main__ import dispatch
from transformer_jax.attention.head_importance import Ablation
from transformer_jax.commands.cli import run
from transformer_jax.commands.head_ablation import all_heads, mask_heads, measure, scorer
from transformer_jax.data.sources import Pair
from transformer_jax.decoding.translator import Translation

PAIRS = [Pair(*texts) for texts in zip(SOURCES[:4], TARGETS[:4], strict=True)]
COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture(scope="module")
def translator(tiny_run):  # noqa: F811
    return Translator.load(tiny_run)


def without(translator, kind, layer, head):
    heads = all_heads(translator.config.model)
    heads[kind][layer, head] = 0
    return heads


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
def test_a_masked_head_is_one_that_puts_out_zeros(translator, kind, layer, head, module, collections):
    def zero_the_head(call, arguments, keywords, context):
        """What the head hands to W^O is set to zero: it is 7 wide, of 14 for both."""
        if context.module.path == (*module, "w_output"):
            [x] = arguments
            arguments = (x.at[..., 7 * head : 7 * head + 7].set(0),)
        return call(*arguments, **keywords)

    def logits(params):
        return translator.model.apply({"params": params}, *INPUTS, mutable=collections)

    masked, sown = logits(mask_heads(translator.params, without(translator, kind, layer, head)))
    with nn.intercept_methods(zero_the_head):
        zeroed, sown_when_zeroed = logits(translator.params)
    np.testing.assert_allclose(masked, zeroed, atol=1e-5)
    assert not np.allclose(masked, logits(translator.params)[0], atol=1e-3)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), sown, sown_when_zeroed)


def test_with_every_head_kept_the_parameters_are_the_same(translator):
    kept = mask_heads(translator.params, all_heads(translator.config.model))
    jax.tree.map(np.testing.assert_array_equal, kept, translator.params)


@pytest.mark.parametrize("beam", [1, 3])
def test_after_the_whole_model_nothing_is_compiled(translator, beam):
    jax.clear_caches()  # Of tests before this one.
    compiled = []

    def listen(event, seconds, **_):
        if event == COMPILED:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        scores_of = scorer(translator, PAIRS, beam)
        scores_of(all_heads(translator.config.model))
        assert compiled
        compiled.clear()
        for kind in ("encoder", "decoder", "cross"):
            for head in (0, 1):
                scores_of(without(translator, kind, 0, head))
        assert not compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_the_loss_is_the_mean_over_target_tokens(translator):
    """Of one pair at a time, without batches, padding or chunks."""
    scores = scorer(translator, PAIRS, 1)(all_heads(translator.config.model))
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


def test_tokenised_references_are_put_together_by_the_rules_of_their_language(translator, monkeypatch):
    config = dataclasses.replace(translator.config, data=dataclasses.replace(translator.config.data, target="fr"))
    said = Translation("L'eau de l'école est là .", 0.0, (), (), ())
    monkeypatch.setattr(Translator, "translate", lambda *_: [said])
    pairs = [Pair("Is it here?", "L' eau de l' école est là .")]
    scores = scorer(Translator(config, translator.tokenizers, translator.params), pairs, 1)
    assert scores(all_heads(config.model)).bleu == pytest.approx(100)


def test_a_change_is_the_difference_to_the_whole_model_and_the_same_every_time(translator):
    ablation = measure(translator, PAIRS, 1)
    scores_of = scorer(translator, PAIRS, 1)
    whole, masked = scores_of(all_heads(translator.config.model)), scores_of(without(translator, "cross", 1, 0))
    assert ablation.loss == whole.loss
    assert ablation.bleu == whole.bleu
    assert ablation.heads["cross"].loss[1, 0] == masked.loss - whole.loss != 0
    assert ablation.heads["cross"].bleu[1, 0] == masked.bleu - whole.bleu
    assert ablation.heads["encoder"].loss.shape == (1, 2)
    assert ablation.heads["decoder"].bleu.shape == (2, 2)
    assert np.count_nonzero([*ablation.heads["decoder"].loss, *ablation.heads["encoder"].loss]) == 6


@pytest.fixture
def ablate(tiny_run, tmp_path, capfd):  # noqa: F811
    """Call the command on lines of text; returns its status, what it printed, and its folder."""

    def call(*options, sources=SOURCES[:3], targets=TARGETS[:3]):
        for name, lines in (("a.en", sources), ("a.de", targets)):
            (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        files = ["--input", str(tmp_path / "a.en"), "--reference", str(tmp_path / "a.de")]
        status = run(dispatch, ["ablate", *files, "--workdir", str(tiny_run), "--output", str(tmp_path), *options])
        return status, *capfd.readouterr(), tmp_path

    return call


def test_the_command_writes_a_file_a_picture_and_a_table(ablate):
    status, out, err, folder = ablate()
    assert status == 0, err
    ablation = Ablation.load(folder / "ablation.json")
    assert (ablation.sentences, ablation.beam, ablation.step) == (3, 1, 1)
    assert (folder / "ablation.png").stat().st_size > 1000
    first, blank, header, *rows = out.splitlines()
    assert first.startswith(f"3 sentences, beam 1: loss {ablation.loss:.4f} nats a target token")
    assert (blank, header.split()) == ("", ["without", "head", "loss", "sacreBLEU"])
    assert len(rows) == 2 + 4 + 4
    most = next(ablation.rows())
    assert rows[0].split() == [
        most.kind, "layer", str(most.layer), str(most.head), f"{most.loss:+.4f}", f"{most.bleu:+.2f}"
    ]  # fmt: skip


def test_without_output_the_files_go_to_the_run_folder(ablate, tiny_run, tmp_path_factory):  # noqa: F811
    folder = shutil.copytree(tiny_run, tmp_path_factory.mktemp("copy") / "run")
    assert ablate("--workdir", str(folder), "--output", str(folder))[0] == 0
    assert {path.name for path in folder.glob("ablation.*")} == {"ablation.json", "ablation.png"}
    Translator.load(folder)


def test_without_a_run_the_run_is_what_is_named(tmp_path, capfd):
    for name in ("a.en", "a.de"):
        (tmp_path / name).write_text("a\n")
    files = ["--input", str(tmp_path / "a.en"), "--reference", str(tmp_path / "a.de")]
    assert run(dispatch, ["ablate", *files, "--workdir", "none"]) == 2
    assert "none is not the folder of a run" in capfd.readouterr().err


def test_long_lines_are_kept_and_said_once(ablate):
    """The first is of more than the 17 tokens of a training sentence: it is translated in parts."""
    long = " ".join(SOURCES[:3])
    status, out, err, _ = ablate(sources=[long, SOURCES[0], "..."], targets=[" ".join(TARGETS[:3]), TARGETS[0], "..."])
    assert status == 0, err
    assert out.startswith("3 sentences")
    assert err.count("translated in") == 1
    assert err.count("no letters") == 1


@pytest.mark.parametrize(
    ("options", "lines", "message"),
    [
        ([], {"targets": TARGETS[:2]}, "has 3 lines but"),
        ([], {"targets": [*TARGETS[:2], " "]}, "a.de:3 is blank but"),
        ([], {"sources": [], "targets": []}, "holds no sentence pairs"),
        (["--beam", "0"], {}, "--beam 0"),
        (["--input", "none.en"], {}, "none.en does not exist"),
        (["--output", "none"], {}, "none cannot be written to: No such file"),
        (["--output", __file__], {}, "test_ablate.py cannot be written to: Not a directory"),
        (["--workdir", "none"], {}, "none is not the folder of a run"),
        (["--beem", "1"], {}, "Did you mean --beam?"),
    ],
)
def test_bad_input_is_one_line(ablate, options, lines, message):
    status, out, err, folder = ablate(*options, **lines)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
    assert message in err
    assert not list(folder.glob("ablation.*"))
