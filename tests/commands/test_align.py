"""The command ``align``: input, output, and a model whose attention is known."""

import dataclasses
import gzip
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import TINY_CONFIG, make_run, random_params

from transformer_jax import Translator
from transformer_jax.alignment import aligning_model
from transformer_jax.alignment.aligning_model import AligningModel
from transformer_jax.alignment.reading import AlignmentRule, link_source_words, link_target_words
from transformer_jax.alignment.sentence_pairs import split_pairs
from transformer_jax.commands import align as align_command
from transformer_jax.commands.align import AlignCommand, align
from transformer_jax.config import Config, DataConfig, ModelConfig, TokenizerConfig
from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.data.sources import Pair
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer

SOURCES = ["Where is the old dog?", "The old dog is here.", "Is it 3.5?"]
TARGETS = ["Wo ist der alte Hund?", "Der alte Hund ist hier.", "Ist es 3,5?"]
WORDS = ["Where", "is", "the", "old", "station?", "dog,", "here.", "3.5", "(we)", "don't", "know"]


# A model that copies


@pytest.fixture(scope="module")
def copier():
    """A model that attends from each target token to the same token of the source, once it has read it.

    Each token has its own direction, large compared with the position's. Queries and keys are the embeddings.
    """
    tokenizer = Tokenizer.train("word", [" ".join(WORDS)] * 3, 50)
    size = len(tokenizer)
    config = Config(
        model=ModelConfig(d_model=2 * size, d_ff=3, heads=1, encoder_layers=1, decoder_layers=1),
        data=DataConfig(max_length=31),
        tokenizer=TokenizerConfig(kind="word"),
    )
    params = jax.tree.map(jnp.zeros_like, random_params(Transformer(config.model, size, size), seed=0))
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.ones_like(leaf) if path[-1].key == "gamma" else leaf, params
    )
    params["target_embeddings"]["table"] = 10 * jnp.eye(size, 2 * size)
    for name in ("w_query", "w_key"):
        params["decoder"]["blocks_0"]["cross_attention"][name]["kernel"] = jnp.eye(2 * size)
    return Translator(config, Tokenizers(tokenizer, tokenizer), params)


def links_of(translator, pair, is_reverse=False):
    """Return the links of a pair by the rule that suits the copying model."""
    rule = AlignmentRule("shifted", ((0, 0),))
    [weights] = AligningModel(Path("copier"), translator, rule, is_reverse).weights(
        split_pairs([pair], translator, by_sentences=False)
    )
    return link_source_words(weights) if is_reverse else link_target_words(weights)


@given(st.permutations(WORDS).flatmap(lambda words: st.integers(1, len(words)).map(lambda count: words[:count])))
def test_copying_model_aligns_a_sentence_with_itself(copier, words):
    diagonal = {(word, word) for word in range(len(words))}
    assert links_of(copier, Pair("  ".join(words), " ".join(words))) == diagonal


def test_links_follow_the_words_in_both_directions(copier):
    pair = Pair("the old dog, here.", "here. dog, the old")
    for is_reverse in (False, True):
        assert links_of(copier, pair, is_reverse) == {(0, 2), (1, 3), (2, 1), (3, 0)}


# The command


@pytest.fixture
def files(tmp_path):
    """A directory with three sentences, their translations and plausible gold links."""
    (tmp_path / "text.en").write_text("".join(f"{line}\n" for line in SOURCES))
    (tmp_path / "text.de").write_text("".join(f"{line}\n" for line in TARGETS))
    (tmp_path / "gold").write_text("0-0 1-1 2p2\n0-0 1-1 2-2\n0-0 1-1 2-2\n")
    return tmp_path


@pytest.fixture
def call(tiny_run, files, capsys):
    """Align the files, and return the printed lines."""

    def call(**options):
        defaults = {"source": files / "text.en", "target": files / "text.de", "workdir": tiny_run}
        align(AlignCommand(**defaults | options))
        return capsys.readouterr().out.splitlines()

    return call


@pytest.fixture(scope="module")
def reverse_run(tmp_path_factory):
    """A run for the opposite direction, with other names of the languages."""
    data = dataclasses.replace(TINY_CONFIG.data, source="deu_Latn", target="English")
    config = dataclasses.replace(TINY_CONFIG, data=data)
    return make_run(tmp_path_factory.mktemp("reverse") / "run", config, seed=1)


def whole_pairs(model):
    return split_pairs([*map(Pair, SOURCES, TARGETS)], model.translator, by_sentences=False)


def parse_links(lines):
    return [{tuple(map(int, link.split("-"))) for link in line.split()} for line in lines]


def test_each_target_word_has_a_link_and_each_pair_a_line(call):
    alignments = parse_links(call())
    assert [{target for _, target in links} for links in alignments] == [set(range(len(t.split()))) for t in TARGETS]
    for text, links in zip(SOURCES, alignments, strict=True):
        assert all(0 <= source < len(text.split()) for source, _ in links)


def test_links_do_not_depend_on_the_other_pairs(call, tiny_run, monkeypatch):
    lines = call()
    monkeypatch.setattr(align_command, "BLOCK_LINES", 2)
    assert call() == lines
    model = AligningModel(tiny_run, Translator.load(tiny_run), AlignmentRule.default(2, 2), is_reverse=False)
    single = [link_target_words(*model.weights([pair])) for pair in whole_pairs(model)]
    assert parse_links(lines) == single


def test_method_layer_and_head_select_the_weights(call, tiny_run):
    def expected(*rule):
        model = AligningModel(tiny_run, Translator.load(tiny_run), AlignmentRule(*rule), is_reverse=False)
        return list(map(link_target_words, model.weights(whole_pairs(model))))

    assert parse_links(call(method="shifted", layer=0, head=0)) == expected("shifted", ((0, 0),))
    assert parse_links(call(layer=0)) == expected("plain", ((0, 0), (0, 1))) != expected("shifted", ((0, 0), (0, 1)))
    assert parse_links(call(head=1)) == expected("plain", ((1, 1),)) != expected("plain", ((0, 1),))
    assert parse_links(call()) == expected("plain", ((1, 0), (1, 1))) != parse_links(call(layer=0))


def test_two_directions_are_symmetrized(call, files, reverse_run):
    rule = {"method": "plain", "layer": 1}
    forward, reverse = (
        parse_links(call(**rule)),
        parse_links(call(source=files / "text.de", target=files / "text.en", workdir=reverse_run, **rule)),
    )
    swapped = [{link[::-1] for link in links} for links in reverse]
    both = list(zip(forward, swapped, strict=True))
    assert forward != swapped
    call = partial(call, reverse=reverse_run, **rule)
    assert parse_links(call(symmetrize="intersection")) == [first & second for first, second in both]
    assert parse_links(call(symmetrize="union")) == [first | second for first, second in both]


def test_rules_with_the_most_agreement_are_chosen(call, reverse_run, caplog):
    def agreement(**options):
        methods = ("intersection", "union")
        common, union = (parse_links(call(reverse=reverse_run, symmetrize=method, **options)) for method in methods)
        return sum(map(len, common)) / sum(map(len, union))

    caplog.set_level("INFO")
    chosen = agreement()
    assert caplog.text.count(", layer ") == 2 * 2  # Two calls of two models.
    assert chosen >= max(agreement(method=method, layer=layer) for method in ("plain", "shifted") for layer in (0, 1))


def test_output_file_equals_the_printed_lines(call, files):
    printed = call()
    assert call(output=files / "links") == []
    assert (files / "links").read_text().splitlines() == printed


def test_compressed_files_are_read(call, files):
    printed = call()
    for name in ("text.en", "text.de"):
        (files / f"{name}.gz").write_bytes(gzip.compress((files / name).read_bytes()))
    assert call(source=files / "text.en.gz", target=files / "text.de.gz") == printed


def test_long_pairs_cause_warnings_and_keep_their_line(call, files, caplog, monkeypatch):
    (files / "text.en").write_text(f"{SOURCES[0]}\n{'dog ' * 20}\n{'dog ' * 60}\n")
    monkeypatch.setattr(aligning_model, "MAX_ALIGNED_TOKENS", 50)
    lines = call()
    assert len(lines) == 3
    assert lines[1]
    assert lines[2] == ""
    assert "pair 2 has" in caplog.messages[0]
    assert "trained on at most 17, so the links may be wrong." in caplog.messages[0]
    assert caplog.messages[1].startswith("pair 3 has")
    assert caplog.messages[1].endswith("the pair is not aligned. Split it into sentence pairs.")


def test_gold_prints_error_rates_of_all_layers_and_heads(call, files, reverse_run):
    lines = call(gold=files / "gold", reverse=reverse_run)
    for name in ("all heads", "layer 0", "layer 1", "layer 1, head 1", "best combination"):
        assert sum(line.startswith(f"{name}  ") for line in lines) == 2
    assert any(line.startswith("shifted, layer 1  ") for line in lines)
    assert lines[-1].startswith("with these options")


def test_links_with_gold_are_unchanged_and_scored_last(call, files, reverse_run):
    printed = call(reverse=reverse_run)
    (files / "gold").write_text("".join(f"{line}\n" for line in printed))
    lines = call(reverse=reverse_run, gold=files / "gold", output=files / "links")
    assert lines[-1].split()[-3:] == ["1.000", "1.000", "0.000"]
    assert (files / "links").read_text().splitlines() == printed


# Lines of several sentences

LINE_SOURCES = ["Where is it?", "The old dog is here.", "The dog is at the old station."]  # 3, 5 and 7 words.
LINE_TARGETS = ["Der alte Hund ist nun dort drüben.", "Hier.", "Am Bahnhof ist er."]  # 7, 1 and 4 words.
OFFSETS = [(0, 0), (3, 7), (8, 8)]


@pytest.fixture
def write(files):
    """Write the sources and the targets, one per line."""

    def write(sources, targets):
        for name, lines in (("text.en", sources), ("text.de", targets)):
            (files / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    return write


def join(alignments):
    """Join the links of the three sentences of a line."""
    return {
        (source + source_offset, target + target_offset)
        for links, (source_offset, target_offset) in zip(alignments, OFFSETS, strict=True)
        for source, target in links
    }


@pytest.mark.parametrize("options", [{}, {"method": "shifted", "layer": 0}])
def test_a_line_has_the_links_of_its_sentences(options, call, write, reverse_run):
    for both in ({}, {"reverse": reverse_run}):
        write(LINE_SOURCES, LINE_TARGETS)
        sentences = parse_links(call(**options, **both))
        write([f" {'  '.join(LINE_SOURCES)}", "Is it 3.5?"], [" ".join(LINE_TARGETS), "Ist es 3,5?"])
        [links, _] = parse_links(call(**options, **both))
        assert links == join(sentences)
        assert {target for _, target in links} >= set(range(12)) or both


def test_never_takes_the_line_as_a_whole(call, write, tiny_run):
    write([" ".join(LINE_SOURCES)], [" ".join(LINE_TARGETS)])
    model = AligningModel(tiny_run, Translator.load(tiny_run), AlignmentRule.default(2, 2), is_reverse=False)
    pair = Pair(" ".join(LINE_SOURCES), " ".join(LINE_TARGETS))
    [weights] = model.weights(split_pairs([pair], model.translator, by_sentences=False))
    assert parse_links(call(split_sentences="never")) == [link_target_words(weights)]
    assert parse_links(call(split_sentences="always")) == parse_links(call()) != [link_target_words(weights)]


def test_single_sentences_give_the_same_weights_as_whole_lines(call, tiny_run):
    model = AligningModel(tiny_run, Translator.load(tiny_run), AlignmentRule.default(2, 2), is_reverse=False)
    split = split_pairs([*map(Pair, SOURCES, TARGETS)], model.translator, by_sentences=True)
    assert list(map(np.ndarray.tobytes, model.weights(split))) == list(
        map(np.ndarray.tobytes, model.weights(whole_pairs(model)))
    )
    assert call() == call(split_sentences="never")


def test_different_sentence_counts_are_reported_once(call, write, reverse_run, caplog):
    write(
        ["Is it?", "Is it? Where?", "Is it? The dog.", "Where?"], ["Ist es?", "Ist es?", "Ist es? Wo?", "Wo? Da. Nun."]
    )
    lines = call(reverse=reverse_run)
    assert len(lines) == 4
    [message] = [message for message in caplog.messages if "sentences" in message]
    assert message.startswith("line 2 and 1 other line: ")
    assert "different numbers of sentences (2 and 1) and are not split." in message
    assert call(reverse=reverse_run, split_sentences="never")[1] == lines[1]


def test_chinese_without_white_space_is_one_word(call, write, caplog):
    write(["你好。你在哪里？", "Is it? The dog."], ["Hallo. Wo bist du?", "你好。你在哪里？"])
    first, second = parse_links(call())
    assert first == {(0, target) for target in range(4)}
    assert len(second) == 1
    assert all(source < 4 and target == 0 for source, target in second)
    assert not [message for message in caplog.messages if "different numbers" in message]


def test_gold_links_of_a_line_are_scored_by_sentence(call, files, write, reverse_run):
    write([" ".join(LINE_SOURCES)], [" ".join(LINE_TARGETS)])
    printed = call(reverse=reverse_run)
    count = len(printed[0].split())
    (files / "gold").write_text(f"{printed[0]} 0-11\n")  # The last link connects two sentences.
    lines = call(reverse=reverse_run, gold=files / "gold", output=files / "links")
    assert (files / "links").read_text().splitlines() == printed
    precision, recall, error_rate = map(float, lines[-1].split()[-3:])
    assert precision == 1
    assert recall == pytest.approx(count / (count + 1), abs=5e-4)
    assert error_rate == pytest.approx(1 - 2 * count / (2 * count + 1), abs=5e-4)


# Wrong use


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 2}, r"has no decoder layer 2\. Set --layer to a number from 0 to 1"),
        ({"layer": -1}, r"has no decoder layer -1\. Set --layer to a number from 0 to 1"),
        ({"head": 2}, r"has no head 2\. Set --head to a number from 0 to 1"),
        (
            {"symmetrize": "union"},
            r"--symmetrize union combines two models, but --reverse is not given\. Set --reverse",
        ),
        ({"source": None}, r"--source and --target are both required\."),
        ({"target": Path("none")}, r"none does not exist"),
        ({"gold": Path("none")}, r"none does not exist"),
        ({"output": Path("no/such/file")}, r"no/such is not a directory"),
        ({"workdir": Path("none")}, r"none is not a run directory"),
    ],
)
def test_wrong_use_is_refused(options, message, call):
    with pytest.raises(InputError, match=message) as refusal:
        call(**options)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("text.de", "Wo?\nDa.\n", r"text.en and .*text.de have different numbers of lines \(3 and 2\)"),
        ("text.de", "Wo?\n \nDa.\n", r"text.de:2 is blank but .*text.en:2 is not"),
        ("gold", "0-0\n0-0\n", r"lines in .*gold \(2\) differs from the number of sentence pairs \(3\)"),
        ("gold", "0-0\n0-0\n0-9\n", r"gold:3: 0-9 links to a word that does not exist"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(name, text, message, call, files):
    (files / name).write_text(text)
    with pytest.raises(InputError, match=message) as refusal:
        call(gold=files / "gold", output=files / "links")
    assert "\n" not in str(refusal.value)
    assert not (files / "links").exists()


def test_two_runs_for_the_same_direction_are_refused(call, tiny_run):
    message = r"--reverse .* translates from en to de, but must translate in the opposite direction of .* from de to en"
    with pytest.raises(InputError, match=message):
        call(reverse=tiny_run)
