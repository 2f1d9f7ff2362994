"""Imported MarianMT models: the same tokens, logits and translations as with transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marian_models import DIFFICULT, SENTENCES, SHAPES, make_marian, torch
from numpy.testing import assert_allclose

from transformer_jax.bridges.marian import import_marian
from transformer_jax.commands.train import parse_train
from transformer_jax.commands.translate import TranslateCommand, translate
from transformer_jax.config import load_config
from transformer_jax.decoding.search import max_target_length
from transformer_jax.decoding.translator import Translator
from transformer_jax.storage.checkpoints import load_params
from transformer_jax.training.loop import fit


@pytest.fixture(scope="module", params=SHAPES, ids=lambda name: name)
def imported(request, tmp_path_factory):
    """A model and its tokenizer in transformers, and the translator of the imported run."""
    directory = tmp_path_factory.mktemp("marian")
    both = make_marian(directory / "model", SHAPES[request.param])
    import_marian(str(directory / "model"), directory / "run")
    return *both, Translator.load(directory / "run")


# Parity with transformers


def test_logits_equal_those_of_transformers(imported):
    theirs, tokenizer, ours = imported
    batch = tokenizer(SENTENCES, text_target=SENTENCES[::-1], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = theirs(**batch).logits.numpy()
    labels = batch["labels"].numpy()
    start = np.full((len(labels), 1), ours.tokenizers.target.sos_id)
    inputs = [batch["input_ids"], np.concatenate([start, labels[:, :-1]], axis=1), batch["attention_mask"]]
    source, target, mask = (jnp.asarray(np.asarray(array), jnp.int32) for array in inputs)
    logits = jax.jit(ours.model.apply)({"params": ours.params}, source, target, mask, jnp.ones_like(target))
    assert_allclose(logits, expected, atol=1e-4)
    assert expected.std() > 0.5


def generated(theirs, tokenizer, text, **settings):
    """Return the token ids without the start token, and the score of beam search.

    At the length limit, the end token keeps the model's probability, as in our search. The option of transformers sets
    it to 1.
    """
    batch = tokenizer([text], return_tensors="pt")
    end, limit = theirs.config.eos_token_id, max_target_length(batch["input_ids"].shape[1])

    def end_at_limit(prefix, scores):
        if prefix.shape[1] < limit:
            return scores
        return torch.full_like(scores, -torch.inf).index_copy(1, torch.tensor([end]), scores[:, [end]])

    output = theirs.generate(
        **batch,
        **settings,
        do_sample=False,
        max_length=limit + 1,
        forced_eos_token_id=None,
        logits_processor=[end_at_limit],
        bad_words_ids=[[theirs.config.pad_token_id]],
        output_scores=True,
        return_dict_in_generate=True,
    )
    return output.sequences[0, 1:].tolist(), output.get("sequences_scores")


def test_greedy_translations_equal_those_of_transformers(imported):
    theirs, tokenizer, ours = imported
    translations = ours.translate(SENTENCES, beam=1)
    expected = [generated(theirs, tokenizer, text, num_beams=1)[0] for text in SENTENCES]
    assert [list(translation.target_ids) for translation in translations] == expected
    texts = tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert [translation.text for translation in translations] == texts
    assert ours.tokenizers.target.pad_id not in {token_id for ids in expected for token_id in ids}


def test_beam_translations_equal_those_of_transformers(imported):
    """Compare without a length penalty, which the two define differently, and without early stopping.

    transformers drops a hypothesis whose end token was not among the best 4 continuations. Ours keeps it if it scores
    better.
    """
    theirs, tokenizer, ours = imported
    settings = {"num_beams": 4, "length_penalty": 0.0, "early_stopping": "never"}
    translations = ours.translate(SENTENCES, beam=4, length_penalty=0.0)
    expected = [generated(theirs, tokenizer, text, **settings) for text in SENTENCES]
    for translation, (ids, score) in zip(translations, expected, strict=True):
        if list(translation.target_ids) == ids:
            assert_allclose(translation.score, float(score[0]), atol=1e-3)
        else:
            assert translation.score > float(score[0]) + 1e-3
            assert len(translation.target_ids) < len(ids)


def test_tokens_equal_those_of_transformers(imported):
    _, tokenizer, ours = imported
    source, target = ours.tokenizers
    assert source.encode(DIFFICULT) == tokenizer(DIFFICULT, add_special_tokens=False)["input_ids"]
    expected = tokenizer(text_target=DIFFICULT, add_special_tokens=False)["input_ids"]
    assert target.encode(DIFFICULT) == expected
    assert target.decode(expected) == tokenizer.batch_decode(expected, skip_special_tokens=True)
    for text, ids in zip(DIFFICULT, source.encode(DIFFICULT), strict=True):
        assert source.encode_with_spans(text)[0] == ids
        assert not set(ids) & {source.pad_id, source.eos_id}


def test_unknown_language_code_is_kept_as_text(marian_run):
    """transformers would drop it from the text."""
    tokenizer = Translator.load(marian_run).tokenizers.source
    [code], [text] = tokenizer.encode([">>de<<"]), tokenizer.encode([">>old<<"])
    assert len(code) == 1
    assert tokenizer.decode([text]) == ["old"]  # The small vocabulary has no other piece of it.


# An imported run


def test_imported_run_translates_and_writes_attention(marian_run, tmp_path):
    text = ("Where is the dog?", "A green house.")
    command = TranslateCommand(text, marian_run, output=tmp_path / "out.txt", beam=2, attention=tmp_path / "attention")
    translate(command)
    assert len((tmp_path / "out.txt").read_text().splitlines()) == 2
    with np.load(tmp_path / "attention/1.npz") as attention:
        source, target = len(attention["source_tokens"]), len(attention["target_tokens"])
        assert attention["cross"].shape == (3, 2, target, source)
        assert attention["encoder"].shape == (2, 2, source, source)
        assert attention["source_tokens"][-1] == "</s>"
        assert_allclose(attention["cross"].sum(-1), 1, atol=1e-5)
    assert (tmp_path / "attention/index.html").exists()


def test_training_starts_from_the_imported_weights(marian_run, tmp_path):
    for name, count in (("train", 23), ("valid", 2), ("test", 2)):
        lines = (f"{text}\t{text}\n" for text in (SENTENCES * count)[:count])
        (tmp_path / f"{name}.tsv").write_text("".join(lines))
    data = (word for name in ("train", "valid", "test") for word in (f"--data.{name}", str(tmp_path / f"{name}.tsv")))
    short = ("--training.steps", "2", "--training.valid-sentences", "1", "--data.max-length", "37")
    size = ("--data.batch-tokens", "307", "--mesh.data", "8", "--optimizer.warmup", "2", "--optimizer.factor", "0.01")
    start = ("--training.init", str(marian_run), "--workdir", str(tmp_path / "run"))
    command = parse_train([*start, *data, *short, *size])
    fit(command.config, command.workdir)
    initial, trained = (load_params(workdir / "checkpoints") for workdir in (marian_run, tmp_path / "run"))
    rate = 0.01 / (22 * 2) ** 0.5  # Each of the two updates of Adam moves a weight by at most about this much.
    jax.tree.map(lambda before, after: assert_allclose(after, before, atol=3 * rate), initial, trained)
    has_changed = jax.tree.map(lambda before, after: bool((before != after).any()), initial, trained)
    assert all(jax.tree.leaves(has_changed))
    assert load_config(tmp_path / "run/config.json").training.init == str(marian_run)
    assert (tmp_path / "run/tokenizer.source.json").read_bytes() == (marian_run / "tokenizer.source.json").read_bytes()
