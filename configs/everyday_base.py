"""English to German: the paper's base model on 193,151 pairs of everyday sentences (Tatoeba) and captions (Multi30k).

Data: the training and validation sets of ``tatoeba.py`` and ``multi30k.py``, concatenated:

    mkdir -p data/everyday
    for split in train val; do
      cp data/tatoeba-en-de/$split.tsv.gz data/everyday/
      paste <(zcat data/multi30k/$split.en.gz) <(zcat data/multi30k/$split.de.gz) | gzip >> data/everyday/$split.tsv.gz
    done

Hardware: one GPU. Size: 52.3 M parameters.
Score: sacreBLEU 40.95 on captions and 44.95 on Tatoeba's test sentences after 4.6 minutes on an H100
(docs/results/everyday.md),
measured before normalization.
Width, layers and heads are those of the base model (Vaswani et al. 2017, table 3). Unlike in the paper, the model is
pre-norm and has a higher dropout rate, because the training set is 20 times smaller. R-Drop was not tested at this
size.

    python train.py --config configs/everyday_base.py
"""

from transformer_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TokenizerConfig, TrainingConfig

config = Config(
    model=ModelConfig(dropout=0.3, norm="pre", dtype="bfloat16"),
    data=DataConfig(
        train="data/everyday/train.tsv.gz",
        valid="data/everyday/val.tsv.gz",
        test="data/multi30k/test_2016_flickr.{lang}.gz",
        batch_tokens=8192,
        on_error="skip",  # One caption contains a tab.
        max_length=64,
        row_length=40,
    ),
    tokenizer=TokenizerConfig(kind="bpe", size=16_000, normalization="text"),
    optimizer=OptimizerConfig(schedule="cosine", factor=0.7, warmup=1000),
    training=TrainingConfig(steps=3000, r_drop=4.0, ema=0.998, valid_every=1000, valid_sentences=2714),
)
