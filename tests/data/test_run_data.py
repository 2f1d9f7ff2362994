"""A run recognizes its texts: unchanged files are not read again, and other text is refused."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from transformer_jax.config import DataConfig
from transformer_jax.data.run_data import RunData, identify_texts, require_same_texts
from transformer_jax.data.sources import open_pairs
from transformer_jax.data.unknown_text import UnknownShares
from transformer_jax.errors import InputError


@pytest.fixture
def data(tmp_path):
    """Return the config for three files with different texts."""
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.tsv").write_text(f"a\tb\n{name}\tc\n")
    return DataConfig(*(str(tmp_path / f"{name}.tsv") for name in ("train", "valid", "test")))


def identify(data, recorded=None):
    """Return the identities, and whether the training text was read for them."""
    train = open_pairs(data.train, data.source, data.target, "train", data.on_error)
    others = [open_pairs(locator, data.source, data.target, "valid") for locator in (data.valid, data.test)]
    texts = identify_texts([train, *others], data, recorded)
    return texts, train.identity is not None


def rewrite(data):
    """Write other text of the same size, and restore the time of the last change."""
    path = Path(data.train)
    times = path.stat()
    path.write_text(path.read_text().replace("c", "C"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return data


def replace(data):
    """Replace the file with a copy that has the same size and time of the last change."""
    copy = shutil.copy2(data.train, f"{data.train}.copy")
    os.replace(copy, data.train)
    return data


def move(data):
    return dataclasses.replace(data, train=shutil.move(data.train, data.train.replace("train.tsv", "moved.tsv")))


def test_an_unchanged_text_is_not_read_again(data, monkeypatch):
    texts, was_read = identify(data)
    assert was_read
    assert identify(data, texts) == (texts, False)
    monkeypatch.chdir(Path(data.train).parent)
    assert identify(dataclasses.replace(data, train="train.tsv"), texts) == (texts, False)


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
        replace,
        move,
        lambda data: dataclasses.replace(data, source="de", target="en"),
        lambda data: dataclasses.replace(data, on_error="skip"),
    ],
)
def test_a_text_that_may_have_changed_is_read_again(data, change):
    texts, _ = identify(data)
    changed, was_read = identify(change(data), texts)
    assert was_read
    assert (changed.train.identity == texts.train.identity) == (change is not rewrite)


def test_the_phrasebook_is_generated_at_each_start(data):
    data = dataclasses.replace(data, train="phrasebook:two")
    texts, _ = identify(data)
    assert texts.train.origin is None
    assert identify(data, texts) == (texts, True)


def test_refusal_names_each_text_and_its_difference(data, tmp_path):
    texts, _ = identify(data)
    require_same_texts(texts, texts, data, tmp_path)
    Path(data.train).write_text("a\tb\n" * 3)
    other = dataclasses.replace(rewrite(data), test=data.valid)
    with pytest.raises(
        InputError,
        match=r"the training text .*train\.tsv has 3 instead of 2 pairs, and the test set .*valid\.tsv has 2 pairs as "
        r"before, but other sources\. Restore the text, or choose another --workdir\.$",
    ):
        require_same_texts(identify(other, texts)[0], texts, other, tmp_path)


def test_identities_name_each_text(data):
    texts, _ = identify(data)
    identities = texts.identities()
    assert list(identities) == ["training text", "validation text", "test set"]
    assert len(set(identities.values())) == 3
    assert all(identity.startswith("2 pairs, checksums ") for identity in identities.values())


def test_texts_survive_saving(data, tmp_path):
    assert RunData.load(tmp_path) is None
    texts, _ = identify(data)
    texts = texts._replace(train=texts.train._replace(unknown=UnknownShares(0.25, 0.0)))
    texts.save(tmp_path)
    assert RunData.load(tmp_path) == texts
    RunData.remove(tmp_path)
    assert not RunData.exists(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": None},
        {"identity": {"pairs": -1, "sources": "0" * 32, "targets": "0" * 32}},
        {"identity": {"pairs": True, "sources": "0" * 32, "targets": "0" * 32}},
        {"identity": {"pairs": 1, "sources": "zero", "targets": "0" * 32}},
        {"identity": {"pairs": 1, "sources": 0, "targets": "0" * 32}},
        {"identity": {"pairs": 1}},
        {"skipped": "1"},
        {"origin": []},
        {"unknown": {"source": 2, "target": 0}},
        {"unknown": {"source": "0", "target": 0}},
        {"other": 1},
    ],
)
def test_a_damaged_file_is_refused(data, tmp_path, changes):
    identify(data)[0].save(tmp_path)
    path = tmp_path / "data.json"
    values = json.loads(path.read_text())
    values["valid"] |= changes
    for content in (json.dumps(values), "", "[]", "{}", '{"format": 2}'):
        path.write_text(content)
        with pytest.raises(InputError, match=r"data\.json is damaged .* or delete it"):
            RunData.load(tmp_path)
