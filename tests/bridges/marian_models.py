"""MarianMT models in the format of Hugging Face's transformers, with random weights and trained vocabularies."""

import io
import json
import os

import numpy as np
import pytest

if os.environ.get("CI") == "true":
    import sentencepiece  # In CI, a missing package must fail the tests instead of skipping them.
    import torch
    import transformers
else:
    reason = "pip install -r requirements-parity.txt"
    torch = pytest.importorskip("torch", reason=reason)
    transformers = pytest.importorskip("transformers", reason=reason)
    sentencepiece = pytest.importorskip("sentencepiece", reason=reason)

ENGLISH = ["Where is the old station?", "The old dog is here.", "Is it 3.5 or 4?", "A red house, a green tree."] * 3
GERMAN = ["Wo ist der alte Bahnhof?", "Der alte Hund ist hier.", "Ist es 3,5 oder 4?", "Ein rotes Haus, grün."] * 3

SENTENCES = ["Where is the dog?", "A green house is here.", "Is it 4?", "The old tree, a red station, the old dog."]

DIFFICULT = [
    *SENTENCES,
    "",
    " ",
    "  leading, trailing and   multiple spaces  ",
    "tabs\tand\nline\r\nfeeds \u2028 \x85 end",
    "\x00\x01 control \x07\x1b\x7f characters",
    "unicode: é e\u0301 ﬁ Ⅳ ① ß ẞ İ ｆｕｌｌ \u00a0\u3000 ½ ™",
    "👩\u200d👩\u200d👧 🇩🇪 emoji 🎉",
    "日本 日本語 العربية עברית ไทย \ufeff\u200b\u202e",
    "</s> <unk> <s> <pad> pad> [PAD] [EOS] <0x41> ▁ ▁▁a",
    "a</s>b<unk><pad>",
    ">>de<< The old house",
    ">>de<<",
    " >>de<< The old house",
    "The >>de<< old << house >>",
    "x" * 300,
]

# All sizes differ.
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
    """Train a SentencePiece model like those of OPUS-MT (unigram, NFKC), and return its pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=size, minloglevel=2, hard_vocab_limit=False
    )
    path.write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [processor.id_to_piece(number) for number in range(3, processor.get_piece_size())]


def vocabulary(*pieces):
    """Return a vocabulary like those of OPUS-MT, with the end token first and padding last."""
    return {piece: number for number, piece in enumerate(dict.fromkeys(["</s>", "<unk>", *pieces, ">>de<<", "<pad>"]))}


def make_marian(directory, shape=SHARED, seed=0):
    """Write a model with its tokenizer, and return both as objects of transformers."""
    directory.mkdir(parents=True)
    sides = [train_spm(directory / "source.spm", ENGLISH, 61), train_spm(directory / "target.spm", GERMAN, 67)]
    joint = shape.get("share_encoder_decoder_embeddings", True)
    if joint:
        # Neither SentencePiece model knows the characters of the last word.
        vocabularies = [vocabulary(*sides[0], *sides[1], "日本")]
    else:
        vocabularies = [vocabulary(*pieces) for pieces in sides]
        size = max(map(len, vocabularies))
        vocabularies = [
            vocabulary(*list(ids)[:-2], *(f"extra{n}" for n in range(size - len(ids)))) for ids in vocabularies
        ]
    for name, ids in zip(("vocab.json", "target_vocab.json"), vocabularies, strict=False):
        (directory / name).write_text(json.dumps(ids))
    tokenizer = transformers.MarianTokenizer(
        *(str(directory / name) for name in ("source.spm", "target.spm", "vocab.json")),
        target_vocab_file=None if joint else str(directory / "target_vocab.json"),
        separate_vocabs=not joint,
        source_lang="en",
        target_lang="de",
        split_special_tokens=True,
    )
    pad = len(vocabularies[0]) - 1
    config = transformers.MarianConfig(
        **shape,
        vocab_size=len(vocabularies[0]),
        decoder_vocab_size=len(vocabularies[-1]),
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=0,
    )
    model = transformers.MarianMTModel(config).eval()
    draw_weights(model, np.random.default_rng(seed))
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory)
    return model, tokenizer


def draw_weights(model, random):
    """Draw random weights with which some translations end early and some reach their length limit."""
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), ("final_logits_bias", model.final_logits_bias)):
            if "embed_positions" in name:
                continue
            mean = 1.0 if name.endswith("norm.weight") else 0.0
            tensor.copy_(torch.from_numpy(mean + 0.3 * random.standard_normal(tensor.shape).astype(np.float32)))
        model.final_logits_bias[0, model.config.eos_token_id] += 2
