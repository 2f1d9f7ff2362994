"""Translation of normal, long and unusual texts, attention maps, and damaged run directories."""

import dataclasses
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny_run import TINY_CONFIG, make_run

from transformer_jax import Translator
from transformer_jax.config import save_config
from transformer_jax.decoding import slot_loop
from transformer_jax.decoding.search import Sampling
from transformer_jax.decoding.translation import Translation
from transformer_jax.errors import InputError, RunError

TEXT = "Where is the dog?"
LONG = "Where is the old station? The old dog is here, 3.5 stations from the old dog. Where is the old dog?"


@pytest.fixture(scope="module")
def translator(tiny_run):
    return Translator.load(tiny_run)


@pytest.fixture
def copy(tiny_run, tmp_path):
    """A copy of the run that a test may damage."""
    return shutil.copytree(tiny_run, tmp_path / "copy")


def assert_same(translations, expected):
    assert [translation.target_ids for translation in translations] == [
        translation.target_ids for translation in expected
    ]
    expected_scores = [translation.score for translation in expected]
    assert [translation.score for translation in translations] == pytest.approx(expected_scores, rel=1e-4)


def test_a_translation_has_text_tokens_and_score(translator):
    [translation] = translator.translate([TEXT])
    target = translator.tokenizers.target
    assert translation.target_ids[-1] == target.eos_id
    assert translation.tokens == tuple(target.tokens(translation.target_ids))
    assert translation.text == target.decode([translation.target_ids])[0]
    assert translation.source_ids == (*translator.tokenizers.source.encode([TEXT])[0], target.eos_id)
    assert translation.score < 0
    assert translation.parts == ()


def test_slots_change_the_loop_but_no_translation(translator, monkeypatch):
    used = []
    original = slot_loop.decode_some
    monkeypatch.setattr(
        slot_loop, "decode_some", lambda *inputs: used.append(len(inputs[2].is_live)) or original(*inputs)
    )
    texts = [f"{TEXT} {number}" for number in range(20)]
    expected = [translation.text for translation in translator.translate(texts)]
    used.clear()
    assert [translation.text for translation in translator.translate(texts, slots=3)] == expected
    assert set(used) == {3}


def test_beam_and_length_penalty_default_to_those_of_the_run(translator):
    assert translator.translate([TEXT]) == translator.translate([TEXT], beam=3, length_penalty=0.6)
    assert translator.translate([TEXT]) != translator.translate([TEXT], beam=3, length_penalty=2.0)


@pytest.mark.parametrize("beam", [1, 3])
def test_texts_keep_their_order_and_are_independent(beam, translator):
    texts = ["The dog.", LONG, "", TEXT, "a", "Is it 3.5? Where?", TEXT]
    together = translator.translate(texts, beam=beam)
    assert together[3] == together[6]
    assert_same(together, [translator.translate([text], beam=beam)[0] for text in texts])


def test_no_texts_have_no_translations(translator):
    assert translator.translate([]) == []


@pytest.mark.parametrize("text", ["", " ", "\t\u3000\n"])
def test_a_blank_text_has_a_blank_translation(text, translator):
    assert translator.translate([text]) == [Translation("", 0.0, (), (), ())]


@pytest.mark.parametrize("text", ["🙂👍🏽👨‍👩‍👧", "\x00\x1b\u200b", "�", "?!", "— 🙂"])
def test_a_text_without_letters_and_digits_is_copied(text, translator):
    copied = translator.translate([TEXT, f" {text} "])[1]
    assert dataclasses.replace(copied, warnings=()) == Translation(text, 0.0, (), (), ())
    assert [code for code, _ in copied.warnings] == ["copied"]


@pytest.mark.parametrize("text", ["\u202eabc", "[EOS] [PAD]", "駅はどこ", "🙂 3"])
def test_unusual_texts_are_translated(text, translator):
    [translation] = translator.translate([text])
    assert translation.source_ids
    assert translation.tokens[-1] == "[EOS]"


def test_half_a_surrogate_pair_is_refused_with_its_text_number(translator):
    with pytest.raises(InputError, match="text 2 contains an unpaired surrogate"):
        translator.translate([TEXT, "\ud800"])


def test_n_best_translations_are_distinct_and_sorted(translator):
    [translations] = translator.translate_n_best([TEXT], 3)
    scores = [translation.score for translation in translations]
    assert len({translation.target_ids for translation in translations}) == 3
    assert scores == sorted(scores, reverse=True)
    assert translations[0] == translator.translate([TEXT])[0]


def test_draws_differ_and_are_reproducible_with_their_seed(translator):
    def draw(seed, first=1):
        [translations] = translator.translate_n_best([TEXT], 5, sampling=Sampling(seed=seed), first=first)
        return [translation.target_ids for translation in translations]

    assert len(set(draw(0))) == 5
    assert draw(0) == draw(0)
    assert not set(draw(0)) & set(draw(1))
    assert not set(draw(0)) & set(draw(0, first=2049))  # a later block of a file


def test_a_draw_depends_on_the_number_of_its_text_only(translator):
    def draw(texts, first=1, n=1):
        results = translator.translate_n_best(texts, n, None, None, Sampling(), first)
        return [[translation.text for translation in translations] for translations in results]

    [*_, alone] = draw([TEXT], first=2)
    for before in (TEXT, "!!!", LONG):
        assert draw([before, TEXT, LONG])[1] == alone
    assert draw([TEXT], first=2, n=3)[0][:1] == alone


def test_parts_of_a_long_text_are_translated_as_if_alone(translator):
    [_, n_best] = translator.translate_n_best([TEXT, LONG], 2, first=6)
    assert "is translated in 2 parts" in dict(n_best[0].warnings)["cut_sentence"]
    assert [part.source for part in n_best[0].parts] == [
        "Where is the old station?",
        "The old dog is here,",
        "3.5 stations from the old dog.",
        "Where is the old dog?",
    ]
    for rank, translation in enumerate(n_best):
        sources = [translator.tokenizers.source.decode([part.source_ids])[0] for part in translation.parts]
        assert " ".join(sources) == LONG
        assert all(len(part.source_ids) <= 17 for part in translation.parts)
        assert_same(translation.parts, [translations[rank] for translations in translator.translate_n_best(sources, 2)])
        assert translation.text == " ".join(part.text for part in translation.parts)
        assert translation.score == pytest.approx(sum(part.score for part in translation.parts))
        assert translation.tokens == tuple(token for part in translation.parts for token in part.tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "--beam 0 is invalid"),
        ({"n": 0}, "--n-best 0 is invalid"),
        ({"n": 4}, "--beam 3 cannot find 4"),
        ({"length_penalty": -0.1}, "--length-penalty -0.1"),
        ({"length_penalty": float("nan")}, "--length-penalty nan"),
    ],
)
def test_invalid_options_are_refused(options, message, translator):
    with pytest.raises(InputError, match=message):
        translator.translate_n_best([TEXT], **{"n": 1, **options})


def test_a_model_that_outputs_nan_is_reported(translator):
    broken = Translator(
        translator.config, translator.tokenizers, jax.tree.map(lambda leaf: leaf * np.nan, translator.params)
    )
    for options in ({"beam": 1}, {"beam": 3}, {"sampling": Sampling(top_k=2)}):
        with pytest.raises(RunError, match="diverged"):
            broken.translate([TEXT], **options)


# Attention


def test_attention_is_that_of_a_pass_over_the_translation(translator):
    [translation] = translator.translate([TEXT], beam=1)
    attention = translator.attention(TEXT, translation)
    s, t = len(translation.source_ids), len(translation.target_ids)
    assert attention.encoder.shape == (1, 2, s, s)
    assert attention.decoder.shape == (2, 2, t, t)
    assert attention.cross.shape == (2, 2, t, s)
    for weights in (attention.encoder, attention.decoder, attention.cross):
        assert_allclose(weights.sum(-1), 1, atol=1e-5)

    inputs = jnp.asarray([[translator.tokenizers.target.sos_id, *translation.target_ids[:-1]]])
    segments = jnp.ones((1, s), jnp.int32), jnp.ones((1, t), jnp.int32)
    apply = jax.jit(partial(translator.model.apply, mutable=["intermediates"]))
    logits, sown = apply({"params": translator.params}, jnp.asarray([translation.source_ids]), inputs, *segments)
    log_probs = np.array(jax.nn.log_softmax(logits[0]))
    assert log_probs[np.arange(t), translation.target_ids].sum() == pytest.approx(translation.score, rel=1e-4)
    log_probs[:, [0, 2]] = -np.inf  # [PAD] and [SOS] are never produced
    assert tuple(log_probs.argmax(-1)[:-1]) == translation.target_ids[:-1]  # the limit may have forced the last one
    [cross] = sown["intermediates"]["decoder"]["blocks_1"]["cross_attention"]["attention"]
    assert_allclose(attention.cross[1], cross[0], atol=1e-5)


def test_attention_of_any_two_texts(translator):
    attention = translator.attention(TEXT, "Wo ist der Hund?")
    target = translator.tokenizers.target
    assert attention.target_tokens == (*target.tokens(target.encode(["Wo ist der Hund?"])[0]), "[EOS]")
    assert attention.source == TEXT


def test_attention_is_of_the_source_in_the_translation(translator, caplog):
    text_with_spaces = TEXT + " " * 300  # Too long for the model, but only because of the spaces.
    [translation] = translator.translate([text_with_spaces])
    assert not caplog.messages
    for text in (text_with_spaces, "another text"):
        assert translator.attention(text, translation).source == TEXT


def test_attention_of_a_long_or_blank_text_is_refused(translator):
    for text, reason in ((LONG, r"was translated in \d+ parts"), (" ", "was copied unchanged")):
        [translation] = translator.translate([text])
        with pytest.raises(InputError, match=f"the text {reason}.* no attention map"):
            translator.attention(text, translation)


# Run directories


def assert_refused(workdir, match):
    with pytest.raises(InputError, match=match) as caught:
        Translator.load(workdir)
    assert "\n" not in str(caught.value)
    assert str(workdir) in str(caught.value)


def test_a_copied_run_directory_works(translator, copy):
    assert Translator.load(str(copy)).translate([TEXT]) == translator.translate([TEXT])


def test_a_run_trained_with_a_kernel_of_another_chip_works(translator, copy):
    model = dataclasses.replace(TINY_CONFIG.model, attention="pallas")
    save_config(dataclasses.replace(TINY_CONFIG, model=model), copy / "config.json")
    trained_elsewhere = Translator.load(copy)
    translations = trained_elsewhere.translate([TEXT])
    assert_same(translations, translator.translate([TEXT]))
    expected = translator.attention(TEXT, translations[0])
    assert_allclose(trained_elsewhere.attention(TEXT, translations[0]).cross, expected.cross, atol=1e-5)


def test_a_directory_without_a_run_is_refused(tmp_path):
    assert_refused(tmp_path / "none", "not a run directory")
    assert_refused(tmp_path, "config.json is missing")


def test_an_unfinished_run_is_refused(copy):
    shutil.rmtree(copy / "checkpoints")
    assert_refused(copy, "has no checkpoint")
    (copy / "checkpoints").mkdir()
    assert_refused(copy, "has no checkpoint")


def test_another_format_version_is_refused_first(copy):
    values = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**values, "format": 99}))
    shutil.rmtree(copy / "checkpoints")
    assert_refused(copy, "format 99")


@pytest.mark.parametrize("content", ["", "{", "{}", '{"format": 1}', "\ufeff\x00"])
def test_a_damaged_config_is_refused(content, copy):
    (copy / "config.json").write_text(content)
    assert_refused(copy, "config")


def test_an_unknown_config_field_is_refused(copy):
    values = json.loads((copy / "config.json").read_text())
    values["model"]["depth"] = 3
    (copy / "config.json").write_text(json.dumps(values))
    assert_refused(copy, "depth")


def test_a_missing_config_section_is_refused(copy):
    values = json.loads((copy / "config.json").read_text())
    del values["model"]
    (copy / "config.json").write_text(json.dumps(values))
    assert_refused(copy, r"config\.json has no section model\.")


def test_a_missing_or_damaged_tokenizer_is_refused(copy):
    path = copy / "tokenizer.json"
    path.write_text(path.read_text()[:1000])
    assert_refused(copy, "not a tokenizer")
    path.unlink()
    assert_refused(copy, "tokenizer.json is not readable")


def test_a_damaged_checkpoint_is_refused(copy):
    for path in (copy / "checkpoints" / "1" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_refused(copy, "all checkpoints are damaged")


def test_params_that_do_not_match_the_config_are_refused(copy):
    wider = dataclasses.replace(TINY_CONFIG, model=dataclasses.replace(TINY_CONFIG.model, d_ff=23))
    save_config(wider, copy / "config.json")
    assert_refused(
        copy, r"feed_forward/narrow/kernel does not match \(in the checkpoint: \(19, 14\), required by .*: \(23, 14\)"
    )


def test_tokenizers_of_another_run_are_refused(copy, tmp_path):
    tokenizer = dataclasses.replace(TINY_CONFIG.tokenizer, size=293)
    other = make_run(tmp_path / "other", dataclasses.replace(TINY_CONFIG, tokenizer=tokenizer))
    shutil.copy(other / "tokenizer.json", copy)
    assert_refused(copy, "parameter target_embeddings/table")


def test_threads_share_one_translator(translator):
    texts = [TEXT, LONG, "The dog.", "Is it 3.5?", "駅はどこ", "a", "!!"] * 3
    expected = [translator.translate(text) for text in texts]
    with ThreadPoolExecutor(7) as pool:
        assert list(pool.map(translator.translate, texts)) == expected
