"""Attention files: they round-trip, and every other file is refused."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from transformer_jax.attention.weights import Attention
from transformer_jax.errors import InputError, RunError


@pytest.fixture
def attention() -> Attention:
    # Different prime sizes: 2 and 3 layers, 5 heads, 7 source and 11 target tokens.
    random = np.random.default_rng(0)
    target = ("▁駅", "は", "どこ", "▁أين", "👍🏽", "e\u0301", "", "$x_1$", "\n", "▁Wo", "[EOS]")
    return Attention(
        encoder=random.random((2, 5, 7, 7), np.float32),
        decoder=random.random((3, 5, 11, 11), np.float32),
        cross=random.random((3, 5, 11, 7), np.float32),
        source_tokens=("▁Where", "▁is", "▁the", "▁old", "▁station", "?", "[EOS]"),
        target_tokens=target,
        target_inputs=("[SOS]", *target[:-1]),
        source="Where is the old station?",
        translation="駅はどこ أين 👍🏽",
        source_words=(0, 1, 2, 3, 4, 4, -1),
        target_words=(*[0] * 10, -1),
        target_texts=("駅はどこ", "أين", "👍🏽"),
        probabilities=random.random(11, np.float32),
        alternatives=tuple((token, "", "▁") for token in target),
        alternative_probabilities=random.random((11, 3), np.float32),
    )


def test_saved_attention_is_loaded_unchanged(attention: Attention, tmp_path: Path) -> None:
    attention.save(tmp_path / "new" / "1.npz")
    loaded = Attention.load(tmp_path / "new" / "1.npz")
    for field in dataclasses.fields(Attention):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(attention, field.name), err_msg=field.name)
    assert isinstance(loaded.source_tokens[0], str)
    assert loaded.encoder.dtype == np.float32


def test_words_and_alternatives_may_be_unknown(attention: Attention, tmp_path: Path) -> None:
    unknown = dict.fromkeys(("probabilities", "alternatives", "alternative_probabilities"))
    minimal = dataclasses.replace(attention, source_words=(), target_words=(), **unknown)
    minimal.save(tmp_path / "1.npz")
    loaded = Attention.load(tmp_path / "1.npz")
    assert loaded.source_words == loaded.target_words == ()
    assert (loaded.probabilities, loaded.alternatives, loaded.alternative_probabilities) == (None, None, None)


def test_files_of_earlier_versions_have_no_texts_of_words(attention: Attention, tmp_path: Path) -> None:
    attention.save(tmp_path / "1.npz")
    with np.load(tmp_path / "1.npz", allow_pickle=False) as stored:
        arrays = {name: array for name, array in stored.items() if not name.endswith("_texts")}
    np.savez_compressed(tmp_path / "2.npz", **arrays)
    assert Attention.load(tmp_path / "2.npz").target_texts == ()


def test_numpy_can_read_the_file(attention: Attention, tmp_path: Path) -> None:
    attention.save(tmp_path / "1.npz")
    with np.load(tmp_path / "1.npz", allow_pickle=False) as stored:
        assert stored["cross"].shape == (3, 5, 11, 7)
        assert stored["target_tokens"].tolist() == list(attention.target_tokens)


def test_saving_replaces_the_old_file_and_leaves_no_other(attention: Attention, tmp_path: Path) -> None:
    path = tmp_path / "1.npz"
    path.write_bytes(b"old")
    attention.save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert Attention.load(path).source == attention.source


def test_unwritable_path_is_reported(attention: Attention, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=re.escape(str(tmp_path / "file" / "1.npz"))):
        attention.save(tmp_path / "file" / "1.npz")


def test_damaged_and_foreign_files_are_refused_in_one_line(attention: Attention, tmp_path: Path) -> None:
    attention.save(tmp_path / "good.npz")
    good = (tmp_path / "good.npz").read_bytes()
    bad = {
        "empty": b"",
        "text": b"not an archive\n",
        "truncated": good[: len(good) // 2],
        "flipped": good[:2000] + bytes(byte ^ 255 for byte in good[2000:2100]) + good[2100:],
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "foreign.npz", weights=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", format=np.asarray([object()]))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in (*bad, "foreign.npz", "pickled.npz", "array.npy", "absent.npz"):
        with pytest.raises(InputError) as caught:
            Attention.load(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_another_format_version_is_refused(attention: Attention, tmp_path: Path) -> None:
    attention.save(tmp_path / "1.npz")
    with np.load(tmp_path / "1.npz") as stored:
        np.savez(tmp_path / "2.npz", **{**stored, "format": np.asarray(99)})
    with pytest.raises(InputError, match="has format 99, but this version reads format 2"):
        Attention.load(tmp_path / "2.npz")


def test_arrays_must_match_the_tokens(attention: Attention) -> None:
    # ValueError, or jaxtyping's TypeError, because the tests check annotations.
    with pytest.raises((ValueError, TypeError), match="cross"):
        dataclasses.replace(attention, cross=attention.cross.swapaxes(2, 3))
    with pytest.raises((ValueError, TypeError), match="cross"):
        dataclasses.replace(attention, decoder=attention.decoder[:2])
    with pytest.raises(ValueError, match="target_inputs has 1 tokens but target_tokens has 11"):
        dataclasses.replace(attention, target_inputs=("[SOS]",))
    with pytest.raises(ValueError, match="source_words has 2 entries for 7 tokens"):
        dataclasses.replace(attention, source_words=(0, 1))


def test_arrays_without_heads_are_refused(attention: Attention) -> None:
    heads = {kind: getattr(attention, kind)[:, :0] for kind in ("encoder", "decoder", "cross")}
    with pytest.raises(ValueError, match="encoder has shape"):
        dataclasses.replace(attention, **heads)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.5, 1.5])
@pytest.mark.parametrize("name", ["encoder", "decoder", "cross", "probabilities", "alternative_probabilities"])
def test_weights_and_probabilities_must_be_between_0_and_1(name: str, wrong: float, attention: Attention) -> None:
    values = getattr(attention, name).copy()
    values.flat[1] = wrong
    with pytest.raises(ValueError, match=f"{name} has values outside the range 0 to 1"):
        dataclasses.replace(attention, **{name: values})


def test_alternatives_require_their_probabilities(attention: Attention) -> None:
    with pytest.raises(ValueError, match="must both be given"):
        dataclasses.replace(attention, alternative_probabilities=None)
    with pytest.raises(ValueError, match="alternatives has shape"):
        dataclasses.replace(attention, alternatives=tuple(row[:2] for row in attention.alternatives))


def test_unsupported_zip_features_are_refused(attention: Attention, tmp_path: Path) -> None:
    attention.save(tmp_path / "good.npz")
    content = (tmp_path / "good.npz").read_bytes()
    entry = content.rindex(b"PK\x01\x02")
    for offset, feature in ((8, "encryption"), (10, "unknown compression"), (6, "later zip version")):
        damaged = bytearray(content)
        damaged[entry + offset] ^= 1 if feature == "encryption" else 99
        (tmp_path / "bad.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"bad\.npz is damaged or is not an attention file"):
            Attention.load(tmp_path / "bad.npz")


def test_arrays_of_wrong_type_or_shape_are_refused(attention: Attention, tmp_path: Path) -> None:
    attention.save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as good:
        stored = dict(good)
    strings, nan = stored["cross"].astype(str), np.where(stored["cross"] > 0.5, np.nan, stored["cross"])
    for change in ({"cross": strings}, {"cross": nan}, {"probabilities": stored["probabilities"][:, None]}):
        np.savez(tmp_path / "bad.npz", **(stored | change))
        with pytest.raises(InputError, match=r"bad\.npz is damaged or is not an attention file"):
            Attention.load(tmp_path / "bad.npz")
