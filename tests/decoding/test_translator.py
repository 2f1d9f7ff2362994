"""A run folder in, translations out: raw text, long text, hard text, and folders that are not what they should be."""

import dataclasses
import json
import logging
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny_run import TINY_CONFIG, make_run

from transformer_jax import Translator
from transformer_jax.config import save_config
from transformer_jax.decoding.search import Sampling
from transformer_jax.decoding.translator import Translation
from transformer_jax.errors import InputError, RunError

TEXT = "Where is the dog?"
LONG = "Where is the old station? The old dog is here, 3.5 stations from the old dog. Where is the old dog?"


@pytest.fixture(scope="module")
def translator(tiny_run):
    return Translator.load(tiny_run)


@pytest.fixture
def copy(tiny_run, tmp_path):
    """A copy of the run, to be damaged."""
    return shutil.copytree(tiny_run, tmp_path / "copy")


def same(found, expected):
    assert [one.target_ids for one in found] == [one.target_ids for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], rel=1e-4)


def test_a_translation_holds_text_tokens_and_score(translator):
    [found] = translator.translate([TEXT])
    target = translator.tokenizers.target
    assert found.target_ids[-1] == target.eos_id
    assert found.tokens == tuple(target.tokens(found.target_ids))
    assert found.text == target.decode([found.target_ids])[0]
    assert found.source_ids == (*translator.tokenizers.source.encode([TEXT])[0], target.eos_id)
    assert found.score < 0
    assert found.parts == ()


def test_beam_and_length_penalty_are_the_runs_own_unless_given(translator):
    assert translator.translate([TEXT]) == translator.translate([TEXT], beam=3, length_penalty=0.6)
    assert translator.translate([TEXT]) != translator.translate([TEXT], beam=3, length_penalty=2.0)


@pytest.mark.parametrize("beam", [1, 3])
def test_texts_keep_their_order_and_do_not_depend_on_each_other(beam, translator):
    texts = ["The dog.", LONG, "", TEXT, "a", "Is it 3.5? Where?", TEXT]
    together = translator.translate(texts, beam=beam)
    assert together[3] == together[6]
    same(together, [translator.translate([text], beam=beam)[0] for text in texts])


def test_no_texts_have_no_translations(translator):
    assert translator.translate([]) == []


@pytest.mark.parametrize("text", ["", " ", "\t\u3000\n"])
def test_a_blank_text_has_a_blank_translation(text, translator):
    assert translator.translate([text]) == [Translation("", 0.0, (), (), ())]


@pytest.mark.parametrize("text", ["🙂👍🏽👨‍👩‍👧", "\x00\x1b\u200b", "�", "?!", "— 🙂"])
def test_a_text_without_letters_and_digits_is_passed_on_as_it_is(text, translator, caplog):
    assert translator.translate([TEXT, f" {text} "])[1] == Translation(text, 0.0, (), (), ())
    assert caplog.messages == ["text 2 has no letters and no digits: it is passed on as it is."]


@pytest.mark.parametrize("text", ["\u202eabc", "[EOS] [PAD]", "駅はどこ", "🙂 3"])
def test_no_text_is_too_strange(text, translator):
    [found] = translator.translate([text])
    assert found.source_ids
    assert found.tokens[-1] == "[EOS]"


def test_half_a_surrogate_pair_is_refused_and_its_text_numbered(translator):
    with pytest.raises(InputError, match="Text 2 contains an unpaired surrogate"):
        translator.translate([TEXT, "\ud800"])


def test_n_best_are_sorted_and_different_and_begin_with_the_best(translator):
    [found] = translator.translate_n_best([TEXT], 3)
    assert len({one.target_ids for one in found}) == 3
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert found[0] == translator.translate([TEXT])[0]


def test_n_draws_differ_and_come_again_with_the_same_seed(translator):
    def draw(seed, first=1):
        [found] = translator.translate_n_best([TEXT], 5, sampling=Sampling(seed=seed), first=first)
        return [one.target_ids for one in found]

    assert len(set(draw(0))) == 5
    assert draw(0) == draw(0)
    assert not set(draw(0)) & set(draw(1))
    assert not set(draw(0)) & set(draw(0, first=2049))  # a later block of a file


def test_what_is_drawn_for_a_text_depends_on_its_number_and_on_no_other_text(translator):
    def draw(texts, first=1, n=1):
        return [
            [one.text for one in found]
            for found in translator.translate_n_best(texts, n, None, None, Sampling(), first)
        ]

    [*_, alone] = draw([TEXT], first=2)
    for before in (TEXT, "!!!", LONG):
        assert draw([before, TEXT, LONG])[1] == alone
    assert draw([TEXT], first=2, n=3)[0][:1] == alone


def test_a_long_text_is_translated_in_parts_that_are_translated_as_if_alone(translator, caplog):
    caplog.set_level(logging.WARNING)
    [_, whole] = translator.translate_n_best([TEXT, LONG], 2, first=6)
    assert "text 7 has more than 16 tokens" in caplog.text
    for place, found in enumerate(whole):
        sources = [translator.tokenizers.source.decode([part.source_ids])[0] for part in found.parts]
        assert " ".join(sources) == LONG
        assert all(len(part.source_ids) <= 17 for part in found.parts)
        same(found.parts, [hypotheses[place] for hypotheses in translator.translate_n_best(sources, 2)])
        assert found.text == " ".join(part.text for part in found.parts)
        assert found.score == pytest.approx(sum(part.score for part in found.parts))
        assert found.tokens == tuple(token for part in found.parts for token in part.tokens)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam": 0}, "beam of 0"),
        ({"n": 0}, "0 translations"),
        ({"n": 4}, "a beam of 3 cannot find 4"),
        ({"length_penalty": -0.1}, "length penalty of -0.1"),
        ({"length_penalty": float("nan")}, "length penalty of nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message, translator):
    with pytest.raises(InputError, match=message):
        translator.translate_n_best([TEXT], **{"n": 1, **settings})


def test_a_model_that_has_diverged_is_named(translator):
    broken = Translator(translator.config, translator.tokenizers, jax.tree.map(lambda x: x * np.nan, translator.params))
    for settings in ({"beam": 1}, {"beam": 3}, {"sampling": Sampling(top_k=2)}):
        with pytest.raises(RunError, match="diverged"):
            broken.translate([TEXT], **settings)


# Attention


def test_attention_is_that_of_the_pass_that_reproduces_the_translation(translator):
    [found] = translator.translate([TEXT], beam=1)
    attention = translator.attention(TEXT, found)
    s, t = len(found.source_ids), len(found.target_ids)
    assert attention.encoder.shape == (1, 2, s, s)
    assert attention.decoder.shape == (2, 2, t, t)
    assert attention.cross.shape == (2, 2, t, s)
    for weights in (attention.encoder, attention.decoder, attention.cross):
        assert_allclose(weights.sum(-1), 1, atol=1e-5)

    inputs = jnp.asarray([[translator.tokenizers.target.sos_id, *found.target_ids[:-1]]])
    segments = jnp.ones((1, s), jnp.int32), jnp.ones((1, t), jnp.int32)
    apply = jax.jit(partial(translator.model.apply, mutable=["intermediates"]))
    logits, sown = apply({"params": translator.params}, jnp.asarray([found.source_ids]), inputs, *segments)
    log_p = np.array(jax.nn.log_softmax(logits[0]))
    assert log_p[np.arange(t), found.target_ids].sum() == pytest.approx(found.score, rel=1e-4)
    log_p[:, [0, 2]] = -np.inf  # [PAD] and [SOS] are never produced
    assert tuple(log_p.argmax(-1)[:-1]) == found.target_ids[:-1]  # the last may have been forced by the limit
    [cross] = sown["intermediates"]["decoder"]["blocks_1"]["cross_attention"]["attention"]
    assert_allclose(attention.cross[1], cross[0], atol=1e-5)


def test_attention_of_any_pair_of_texts(translator):
    attention = translator.attention(TEXT, "Wo ist der Hund?")
    target = translator.tokenizers.target
    assert attention.target_tokens == (*target.tokens(target.encode(["Wo ist der Hund?"])[0]), "[EOS]")
    assert attention.source == TEXT


def test_attention_is_of_the_text_that_was_read(translator, caplog):
    blanks = TEXT + " " * 300  # More tokens than are translated at once, but one sentence.
    [found] = translator.translate([blanks])
    assert not caplog.messages
    for text in (blanks, "another text"):
        assert translator.attention(text, found).source == TEXT


def test_attention_of_a_text_in_parts_or_of_none_is_refused(translator):
    for text in (LONG, " "):
        [found] = translator.translate([text])
        with pytest.raises(InputError, match="no attention map"):
            translator.attention(text, found)


# Run folders


def refused(folder, match):
    with pytest.raises(InputError, match=match) as caught:
        Translator.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_copied_folder_works(translator, copy):
    assert Translator.load(str(copy)).translate([TEXT]) == translator.translate([TEXT])


def test_a_missing_folder_is_refused(tmp_path):
    refused(tmp_path / "none", "not the folder of a run")
    refused(tmp_path, "no config.json")


def test_an_unfinished_run_is_refused(copy):
    shutil.rmtree(copy / "checkpoints")
    refused(copy, "holds no checkpoint")
    (copy / "checkpoints").mkdir()
    refused(copy, "holds no checkpoint")


def test_another_version_is_refused_whatever_else_the_folder_holds(copy):
    values = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**values, "format": 99}))
    shutil.rmtree(copy / "checkpoints")
    refused(copy, "format 99")


@pytest.mark.parametrize("content", ["", "{", "{}", '{"format": 1}', "\ufeff\x00"])
def test_a_damaged_config_is_refused(content, copy):
    (copy / "config.json").write_text(content)
    refused(copy, "config")


def test_an_unknown_setting_is_refused(copy):
    values = json.loads((copy / "config.json").read_text())
    values["model"]["depth"] = 3
    (copy / "config.json").write_text(json.dumps(values))
    refused(copy, "depth")


def test_a_missing_or_damaged_tokenizer_is_refused(copy):
    path = copy / "tokenizer.json"
    path.write_text(path.read_text()[:1000])
    refused(copy, "not a tokenizer")
    path.unlink()
    refused(copy, "tokenizer.json is not readable")


def test_a_damaged_checkpoint_is_refused(copy):
    for path in (copy / "checkpoints" / "1" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(copy, "damaged checkpoint")


def test_parameters_that_do_not_fit_the_config_are_refused(copy):
    wider = dataclasses.replace(TINY_CONFIG, model=dataclasses.replace(TINY_CONFIG.model, d_ff=23))
    save_config(wider, copy / "config.json")
    refused(copy, r"feed_forward/narrow/kernel has shape \(19, 14\), but config and tokenizers need \(23, 14\)")


def test_tokenizers_of_another_run_are_refused(copy, tmp_path):
    tokenizer = dataclasses.replace(TINY_CONFIG.tokenizer, size=293)
    other = make_run(tmp_path / "other", dataclasses.replace(TINY_CONFIG, tokenizer=tokenizer))
    shutil.copy(other / "tokenizer.json", copy)
    refused(copy, "parameter target_embeddings/table")
