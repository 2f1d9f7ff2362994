"""The attention files and word alignments of the command ``translate``."""

import dataclasses
import shutil

import numpy as np
from translate_cases import LONG, TEXTS, load, page_index

from transformer_jax import Translator
from transformer_jax.alignment.error_rate import format_links
from transformer_jax.alignment.word_links import word_links
from transformer_jax.attention import explorer
from transformer_jax.attention.head_importance import HeadImportance, ScoreChanges
from transformer_jax.attention.weights import Attention
from transformer_jax.commands import translate as translate_command
from transformer_jax.commands import translation_writer


def test_alignments_link_each_text_to_its_best_translation(translate, expected, monkeypatch, tmp_path, tiny_run):
    monkeypatch.setattr(translate_command, "BLOCK_LINES", 2)
    texts, translator = [*TEXTS, "", LONG, "?! 🙂"], load(tiny_run)
    links = [format_links(pair_links) for pair_links in word_links(translator, texts, translator.translate(texts))]
    assert links[3] == ""
    assert links[5] == "0-0 1-1"
    assert translate(*texts, "--alignments", tmp_path / "links").lines == expected(texts)
    assert (tmp_path / "links").read_text().split("\n") == [*links, ""]
    assert len(translate(*texts, "--alignments", tmp_path / "more", "--n-best", 2).lines) > len(texts)
    assert (tmp_path / "more").read_text() == (tmp_path / "links").read_text()


def test_failure_leaves_no_alignments_file(translate, monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(translation_writer, "write_alignments", fail)
    result = translate(*TEXTS, "--alignments", tmp_path / "links", "--output", tmp_path / "out")
    assert result.is_refusal("links: No space left on device", "choose another --alignments", status=1)
    assert list(tmp_path.iterdir()) == []


def test_attention_is_written_for_each_sentence(translate, tiny_run, tmp_path):
    directory = tmp_path / "new" / "attention"
    text = "The old dog. !!! Is it?"
    result = translate("Is it?", "", text, "a", "--attention", directory)
    assert len(result.lines) == 4
    kinds = ["cross.layer0", "cross.layer1", "decoder.layer0", "decoder.layer1", "encoder.layer0"]
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        [
            "index.html",
            *(f"{number}.npz" for number in ("1", "3.1", "3.2", "4")),
            *(f"{number}.{kind}.png" for number in ("1", "3.1", "3.2", "4") for kind in kinds),
        ]
    )
    assert "line 2 was copied unchanged, so no attention" in result.err
    translator = load(tiny_run)
    [parts] = translator.translate([text])
    for name, sentence in zip(("3.1", "3.2"), parts.sentences, strict=True):
        stored = Attention.load(directory / f"{name}.npz")
        assert (stored.source, stored.translation) == (sentence.source, sentence.text)
    stored, [translation] = Attention.load(directory / "1.npz"), translator.translate(["Is it?"])
    assert stored.source == "Is it?"
    assert stored.translation == translation.text
    assert stored.target_tokens == translation.tokens
    assert stored.cross.shape == (2, 2, len(translation.target_ids), len(translation.source_ids))
    np.testing.assert_allclose(stored.cross.sum(-1), 1, atol=1e-5)
    assert (directory / "1.cross.layer1.png").read_bytes().startswith(b"\x89PNG")
    page = (directory / "index.html").read_text(encoding="utf-8")
    assert [sentence["number"] for sentence in page_index(page)["sentences"]] == [1, "3.1", "3.2", 4]


def test_attention_weights_are_computed_once_per_text(translate, monkeypatch, tmp_path):
    sources, attention = [], Translator.attention

    def record_source(translator, source, translation):
        sources.append(source)
        return attention(translator, source, translation)

    monkeypatch.setattr(Translator, "attention", record_source)
    assert len(translate(*TEXTS[:2], "--attention", tmp_path, "--jsonl").lines) == 2
    assert sources == TEXTS[:2]


def test_surrounding_spaces_do_not_change_the_result(translate, tmp_path):
    result = translate(TEXTS[0] + " " * 300, "--attention", tmp_path, "--jsonl")
    assert (result.status, result.err) == (0, "")
    assert Attention.load(tmp_path / "1.npz").source == TEXTS[0]
    assert result.lines == translate(TEXTS[0], "--jsonl").lines


def test_lines_without_attention_are_still_translated(translate, expected, tmp_path):
    result = translate("", "?! 🙂", "--attention", tmp_path / "attention")
    assert result.lines == expected(["", "?! 🙂"])
    assert not list((tmp_path / "attention").iterdir())


def test_page_of_an_earlier_call_causes_a_warning(translate, tmp_path):
    assert "earlier" not in translate(TEXTS[0], "--attention", tmp_path).err
    warning = "no line of this text has attention, so "
    page = "index.html is unchanged and shows the text of an earlier command."
    assert f"{warning}{tmp_path}/{page}" in translate("", "--attention", tmp_path).err


def test_sentences_beyond_the_page_limit_cause_a_warning(translate, monkeypatch, tmp_path):
    monkeypatch.setattr(explorer, "MAX_DATA_BYTES", 1)
    result = translate(*TEXTS, "--attention", tmp_path)
    assert f"{tmp_path / 'index.html'}: sentences from line 2 onward are omitted (2 in total)" in result.err
    assert (tmp_path / "3.npz").is_file()
    assert page_index((tmp_path / "index.html").read_text(encoding="utf-8"))["left_out"] in result.err


def test_page_shows_the_head_importance_of_the_run(translate, tiny_run, tmp_path):
    workdir = shutil.copytree(tiny_run, tmp_path / "run")
    changes = {
        kind: ScoreChanges(*np.ones((2, layers, 2))) for kind, layers in (("encoder", 1), ("decoder", 2), ("cross", 2))
    }
    importance = HeadImportance(sentences=3, beam=1, loss=1.0, bleu=2.0, signature="", heads=changes, step=1)
    importance.save(workdir / "ablation.json")
    translate("Is it?", "--attention", tmp_path / "a", workdir=workdir)
    shown = page_index((tmp_path / "a" / "index.html").read_text(encoding="utf-8"))["ablation"]
    assert shown["cross"] == {"loss": [[1, 1], [1, 1]], "bleu": [[1, 1], [1, 1]]}
    assert shown["conditions"] == "3 sentences, greedy"
    dataclasses.replace(importance, step=7).save(workdir / "ablation.json")
    result = translate("Is it?", "--attention", tmp_path / "a", workdir=workdir)
    assert "ablation.json is from step 7, but the model is from step 1. Head importance is not shown." in result.err
    assert f"ablate --workdir {workdir} --input FILE --reference FILE" in result.err
    assert page_index((tmp_path / "a" / "index.html").read_text(encoding="utf-8"))["ablation"] is None
    (workdir / "ablation.json").write_text("{")
    assert translate("Is it?", "--attention", tmp_path / "b", workdir=workdir).is_refusal("ablation.json", "damaged")
