"""A run with ``tokenizer.normalization text`` translates a text in the same way, however it is typed."""

import dataclasses
import json

import pytest

from transformer_jax import Translator
from transformer_jax.config import DataConfig, TokenizerConfig, load_config
from transformer_jax.errors import InputError
from transformer_jax.training.loop import fit

LINES = [
    "I don't know.\tIch weiß es nicht.",
    "He doesn't know.\tEr weiß es nicht.",
    "It isn\u2019t here.\tEs ist nicht hier\u00a0…",
]


@pytest.fixture(scope="module")
def run(make_config, tmp_path_factory):
    """A run that was trained for three steps on sources with straight and, rarely, curly apostrophes."""
    directory = tmp_path_factory.mktemp("normalized")
    for name in ("train", "valid", "test"):
        lines = LINES[:2] * 100 + LINES[2:] if name == "train" else LINES
        (directory / f"{name}.tsv").write_text("\n".join(lines), encoding="utf-8")
    locators = (str(directory / f"{name}.tsv") for name in ("train", "valid", "test"))
    config = dataclasses.replace(
        make_config(steps=3, valid_every=3),
        data=DataConfig(*locators, max_length=32, batch_tokens=256),
        tokenizer=TokenizerConfig("bpe", size=300, normalization="text"),
    )
    fit(config, directory / "run", recipe="normalized")
    return directory / "run"


def test_typography_does_not_change_the_translation(run):
    translator = Translator.load(run)
    straight, curly, hidden = translator.translate(["I don't know.", "I don’t know.", "I\u00a0 don’t kno\u00adw."])
    assert straight.source_ids == curly.source_ids == hidden.source_ids
    assert straight.text == curly.text == hidden.text
    assert (curly.source, hidden.source) == ("I don’t know.", "I\u00a0 don’t kno\u00adw.")
    # Without the normalization, the run reads another text.
    plain = translator.tokenizers.target
    assert plain.encode(["I don't know."]) != plain.encode(["I don’t know."])
    attention = translator.attention("I don’t know.", curly)
    assert attention.source_texts == ("I", "don’t", "know.")
    assert attention.target_texts == tuple(curly.text.split())


def test_targets_are_trained_on_as_they_are(run):
    target = Translator.load(run).tokenizers.target
    assert target.normalization is None
    assert target.decode(target.encode([LINES[2].split("\t")[1]])) == ["Es ist nicht hier\u00a0…"]
    assert json.loads((run / "normalization.json").read_text())["apostrophe"] == ["'"]


def test_a_normalized_run_resumes_and_starts_another(run, tmp_path):
    config = load_config(run / "config.json")
    training = dataclasses.replace(config.training, steps=4, valid_every=4)
    fit(dataclasses.replace(config, training=training), run, recipe="normalized")
    other = dataclasses.replace(config, training=dataclasses.replace(config.training, init=str(run)))
    fit(other, tmp_path / "run", recipe="normalized")
    assert (tmp_path / "run/normalization.json").read_bytes() == (run / "normalization.json").read_bytes()


def test_a_run_without_its_table_is_refused(run, tmp_path):
    (run / "normalization.json").rename(tmp_path / "normalization.json")
    with pytest.raises(InputError, match=r"normalization\.json is missing, .*Copy the complete run directory again\.$"):
        Translator.load(run)
    (tmp_path / "normalization.json").rename(run / "normalization.json")
    assert Translator.load(run)
