"""English to German image captions, lower-cased and tokenized: the model size of published work.

Data, model size and training budget follow Wu et al. 2021 (docs/results/multi30k.md): 4 + 4 layers, width 128,
feed-forward width 256, 4 heads, 2.6 M parameters, a joint BPE vocabulary of 10,000, at most 8,000 updates of 8,192
positions, beam 5. The same page lists the differences: for example, each update has half as many positions but
processes them twice (R-Drop), and the model is pre-norm.

Data: the official files: lower-cased, with normalized punctuation, and tokenized with the Moses script. Put ``train``,
``val`` and ``test_2016_flickr`` (``.lc.norm.tok.en`` and ``.lc.norm.tok.de``) from data/task1/tok of
https://github.com/multi30k/dataset into ``data/multi30k/`` and compress them with
``gzip data/multi30k/*.lc.norm.tok.*``. Input to translate must also be lower-cased and tokenized, such as
"a man in a red shirt .". Use ``multi30k.py`` for raw text.
Score: tokenized BLEU 41.60 on the test file (beam 5, seed 0) after 5.2 hours on 2 cores of an AMD EPYC.

    python train.py --config configs/multi30k_tiny.py
"""

from transformer_jax.config import (
    Config,
    DataConfig,
    DecodingConfig,
    ModelConfig,
    OptimizerConfig,
    TokenizerConfig,
    TrainingConfig,
)

config = Config(
    model=ModelConfig(d_model=128, d_ff=256, heads=4, encoder_layers=4, decoder_layers=4, dropout=0.2, norm="pre"),
    data=DataConfig(
        train="data/multi30k/train.lc.norm.tok.{lang}.gz",
        valid="data/multi30k/val.lc.norm.tok.{lang}.gz",
        test="data/multi30k/test_2016_flickr.lc.norm.tok.{lang}.gz",
        batch_tokens=4096,
        max_length=64,
        row_length=40,
    ),
    tokenizer=TokenizerConfig(kind="bpe", size=10_000),
    optimizer=OptimizerConfig(schedule="cosine", factor=1.0, warmup=500),
    training=TrainingConfig(steps=8000, r_drop=4.0, ema=0.998, valid_every=1000, valid_sentences=1014, save_every=100),
    decoding=DecodingConfig(beam=5, length_penalty=0.6),
)
