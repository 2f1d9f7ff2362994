"""A prepared corpus holds what encoding gives, is used while it is valid, and is never half a one."""

import dataclasses
import errno
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from filelock import FileLock

from transformer_jax.config import DataConfig
from transformer_jax.data import batches, prepared
from transformer_jax.data.batches import encode_pairs
from transformer_jax.data.prepared import prepared_pairs
from transformer_jax.data.sources import open_pairs
from transformer_jax.data.tokenizers import Tokenizer, Tokenizers
from transformer_jax.errors import InputError, RunError

LINES = ["a b\tb c", "c\ta", "a b c a\tb", "b a\tc c"]


def tokenizers(words="a b c"):
    tokenizer = Tokenizer.train("word", [words] * 2, size=11)
    return Tokenizers(tokenizer, tokenizer)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Settings for four pairs in a file, one of them too long, and a place for prepared corpora."""
    monkeypatch.setenv("TRANSFORMER_JAX_CORPORA", str(tmp_path / "corpora"))
    (tmp_path / "pairs.tsv").write_text("\n".join(LINES))
    return DataConfig(train=str(tmp_path / "pairs.tsv"), max_length=4)


def text_of(data):
    """Opens the training split; knows how often it was called."""
    return Mock(wraps=lambda: open_pairs(data.train, data.source, data.target, "train"))


def corpora(tmp_path):
    return sorted(path for path in (tmp_path / "corpora").glob("*") if path.suffix != ".lock")


def test_later_starts_map_what_the_first_encoded_and_read_no_text(data):
    text = text_of(data)
    expected, _ = encode_pairs(open_pairs(data.train, "en", "de", "train"), tokenizers(), 4)
    for _ in range(2):
        pairs, left_out, skipped = prepared_pairs(data, tokenizers(), text)
        assert (left_out, skipped) == (1, 0)
        for mapped, encoded in zip(pairs, expected, strict=True):
            np.testing.assert_array_equal(mapped.values, encoded.values)
            np.testing.assert_array_equal(mapped.ends, encoded.ends)
            assert mapped.values.dtype == np.uint8  # The vocabulary has 7 words.
            assert isinstance(mapped.values.base, np.memmap)
    assert text.call_count == 1


def touched(data):
    os.utime(data.train, ns=(1, 1))
    return data


def lengthened(data):
    text = Path(data.train)
    times = text.stat()
    text.write_text("\n".join([*LINES, "a\ta"]))
    os.utime(text, ns=(times.st_atime_ns, times.st_mtime_ns))
    return data


def moved(data):
    return dataclasses.replace(data, train=shutil.copy2(data.train, data.train.replace("pairs", "copy")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (touched, "a b c"),
        (lengthened, "a b c"),
        (moved, "a b c"),
        (lambda data: dataclasses.replace(data, max_length=5), "a b c"),
        (lambda data: dataclasses.replace(data, source="de", target="en"), "a b c"),
        (lambda data: data, "a b c d"),
    ],
)
def test_whatever_changes_the_ids_prepares_another_corpus(data, tmp_path, change, words):
    prepared_pairs(data, tokenizers(), text_of(data))
    changed = change(data)
    text = text_of(changed)
    pairs = prepared_pairs(changed, tokenizers(words), text).pairs
    assert text.call_count == 1
    expected, _ = encode_pairs(text(), tokenizers(words), changed.max_length)
    np.testing.assert_array_equal(pairs.source.values, expected.source.values)
    assert len(corpora(tmp_path)) == 2


def test_a_preparation_that_was_cut_off_is_made_again(data, tmp_path, monkeypatch):
    def cut_off(*arguments):
        yield next(blocks(*arguments))
        raise KeyboardInterrupt

    blocks = prepared.encoded_blocks
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "encoded_blocks", cut_off)
        with pytest.raises(KeyboardInterrupt):
            prepared_pairs(data, tokenizers(), text_of(data))
    assert len(prepared_pairs(data, tokenizers(), text_of(data)).pairs) == 3
    assert len(corpora(tmp_path)) == 1


def test_a_missing_file_is_still_missed(data):
    prepared_pairs(data, tokenizers(), text_of(data))
    os.remove(data.train)
    with pytest.raises(InputError, match=r"pairs\.tsv does not exist"):
        prepared_pairs(data, tokenizers(), text_of(data))


def test_nothing_is_kept_of_a_corpus_of_long_lines_alone(data, tmp_path):
    data = dataclasses.replace(data, max_length=2)
    Path(data.train).write_text("a b\tb")
    with pytest.raises(InputError, match=r"Raise --data\.max-length"):
        prepared_pairs(data, tokenizers(), text_of(data))
    assert not corpora(tmp_path)


def test_a_place_that_cannot_be_written_is_named_with_the_remedy(data, tmp_path):
    (tmp_path / "corpora").write_text("a file")
    with pytest.raises(RunError, match=r"corpora/.* cannot be written .*Set TRANSFORMER_JAX_CORPORA"):
        prepared_pairs(data, tokenizers(), text_of(data))


def test_the_phrasebook_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFORMER_JAX_CORPORA", str(tmp_path / "corpora"))
    data = DataConfig()
    pairs, left_out, _ = prepared_pairs(data, tokenizers(), text_of(data))
    assert len(pairs) + left_out == sum(1 for _ in open_pairs("phrasebook", "en", "de", "train"))
    assert not corpora(tmp_path)


def test_those_who_start_together_prepare_once(data):
    text = text_of(data)

    def slowly():
        time.sleep(0.2)
        return text()

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: prepared_pairs(data, tokenizers(), slowly), range(3)))
    assert text.call_count == 1
    assert [len(each.pairs) for each in found] == [3, 3, 3]


def test_a_place_without_locks_will_do(data, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", fail)
    assert len(prepared_pairs(data, tokenizers(), text_of(data)).pairs) == 3
    assert "without locks" in caplog.text


def test_skipped_rows_are_counted_at_later_starts_too_and_never_taken_for_refused_ones(data):
    Path(data.train).write_text("\n".join([*LINES, "no tab"]))
    lenient = dataclasses.replace(data, on_error="skip")

    def text():
        return open_pairs(data.train, "en", "de", "train", "skip")

    for _ in range(2):
        assert prepared_pairs(lenient, tokenizers(), text)[1:] == (1, 1)
    with pytest.raises(InputError, match=r"pairs\.tsv:5 has 0 tabs"):
        prepared_pairs(data, tokenizers(), text_of(data))


@pytest.mark.parametrize("damage", ["", "cut"])
@pytest.mark.parametrize("name", ["source.ids", "target.ends", "origin.json"])
def test_a_damaged_corpus_is_refused_with_the_remedy(data, tmp_path, name, damage):
    prepared_pairs(data, tokenizers(), text_of(data))
    [folder] = corpora(tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-2] if damage else b"")
    with pytest.raises(RunError, match=r"is damaged \(.*\)\. Delete it"):
        prepared_pairs(data, tokenizers(), text_of(data))


def test_blocks_join_to_what_is_encoded_at_once(data, monkeypatch):
    whole = prepared_pairs(data, tokenizers(), text_of(data))
    monkeypatch.setattr(batches, "BLOCK", 1)  # Of which one is empty: its pair is too long.
    os.utime(data.train, ns=(1, 1))
    blocks = prepared_pairs(data, tokenizers(), text_of(data))
    assert blocks[1:] == whole[1:]
    for one, other in zip(blocks.pairs, whole.pairs, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.ends, other.ends)
