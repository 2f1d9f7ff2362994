"""MarianMT models in the files of Hugging Face's transformers, made on the spot: random weights, real vocabularies."""

import io
import json
import os

import numpy as np
import pytest

if os.environ.get("CI") == "true":
    import sentencepiece  # a missing parity test must not look like a passed one
    import torch
    import transformers
else:
    reason = "pip install -r requirements-parity.txt"
    torch = pytest.importorskip("torch", reason=reason)
    transformers = pytest.importorskip("transformers", reason=reason)
    sentencepiece = pytest.importorskip("sentencepiece", reason=reason)

ENGLISH = ["Where is the old station?", "The old dog is here.", "Is it 3.5 or 4?", "A red house, a green tree."] * 3
GERMAN = ["Wo ist der alte Bahnhof?", "Der alte Hund ist hier.", "Ist es 3,5 oder 4?", "Ein rotes Haus, grün."] * 3

# Sizes that all differ: D model width, F feed-forward width.
SHARED = {
    "d_model": 22,
    "encoder_ffn_dim": 19,
    "decoder_ffn_dim": 19,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "activation_function": "swish",
    "scale_embedding": True,
    "max_position_embeddings": 127,
}
SHAPES = {
    "opus-mt": SHARED,
    "relu, unscaled": SHARED | {"activation_function": "relu", "scale_embedding": False, "decoder_layers": 1},
    "two vocabularies": SHARED | {"share_encoder_decoder_embeddings": False, "encoder_layers": 3, "decoder_layers": 2},
    "three tables": SHARED
    | {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False, "decoder_layers": 1},
}


def train_spm(path, lines, size):
    """A SentencePiece model of OPUS-MT's kind: unigram, NFKC."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=size, minloglevel=2, hard_vocab_limit=False
    )
    path.write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [processor.id_to_piece(number) for number in range(3, processor.get_piece_size())]


def vocabulary(*pieces):
    """As OPUS-MT's: the end first, padding last."""
    return {piece: number for number, piece in enumerate(dict.fromkeys(["</s>", "<unk>", *pieces, ">>de<<", "<pad>"]))}


def make_marian(folder, shape=SHARED, seed=0):
    """Write a model with its tokenizer; returns both as transformers has them."""
    folder.mkdir(parents=True)
    sides = [train_spm(folder / "source.spm", ENGLISH, 61), train_spm(folder / "target.spm", GERMAN, 67)]
    joint = shape.get("share_encoder_decoder_embeddings", True)
    if joint:
        words = [vocabulary(*sides[0], *sides[1], "日本")]  # A word of which neither model has the characters.
    else:
        words = [vocabulary(*pieces) for pieces in sides]
        size = max(map(len, words))
        words = [vocabulary(*list(one)[:-2], *(f"extra{n}" for n in range(size - len(one)))) for one in words]
    for name, one in zip(("vocab.json", "target_vocab.json"), words, strict=False):
        (folder / name).write_text(json.dumps(one))
    tokenizer = transformers.MarianTokenizer(
        *(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")),
        target_vocab_file=None if joint else str(folder / "target_vocab.json"),
        separate_vocabs=not joint,
        source_lang="en",
        target_lang="de",
        split_special_tokens=True,
    )
    pad = len(words[0]) - 1
    config = transformers.MarianConfig(
        **shape,
        vocab_size=len(words[0]),
        decoder_vocab_size=len(words[-1]),
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=0,
    )
    model = transformers.MarianMTModel(config).eval()
    draw(model, np.random.default_rng(seed))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return model, tokenizer


def draw(model, random):
    """Random weights with which some translations end early, and some at their limit."""
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), ("final_logits_bias", model.final_logits_bias)):
            if "embed_positions" in name:
                continue
            around = 1.0 if name.endswith("norm.weight") else 0.0
            tensor.copy_(torch.from_numpy(around + 0.3 * random.standard_normal(tensor.shape).astype(np.float32)))
        model.final_logits_bias[0, model.config.eos_token_id] += 2
