"""English to German, everyday sentences from Tatoeba: a usable model for short sentences on a laptop CPU.

Data: 164,152 training, 1,700 validation and 1,651 test pairs, with source and target separated by a tab. A hash of the
English sentence selects the split, so no English sentence is in two splits. Put ``train.tsv.gz``, ``val.tsv.gz`` and
``test.tsv.gz`` into ``data/tatoeba-en-de/``, or name other files with ``--data.train``, ``--data.valid`` and
``--data.test``.
Size: 4.6 M parameters.
Score: sacreBLEU 42.00 and chrF 59.72 on the test file (beam 5, seed 0) after 1.6 hours on one core of an AMD EPYC
(docs/results/tatoeba.md),
measured before normalization.

    python train.py --config configs/tatoeba.py
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
    model=ModelConfig(d_model=192, d_ff=768, heads=4, encoder_layers=3, decoder_layers=3, dropout=0.1, norm="pre"),
    data=DataConfig(
        train="data/tatoeba-en-de/train.tsv.gz",
        valid="data/tatoeba-en-de/val.tsv.gz",
        test="data/tatoeba-en-de/test.tsv.gz",
        batch_tokens=2048,
        max_length=64,
        row_length=32,
    ),
    tokenizer=TokenizerConfig(kind="bpe", size=8000, normalization="text"),
    optimizer=OptimizerConfig(schedule="cosine", factor=1.0, warmup=500),
    training=TrainingConfig(steps=7000, ema=0.998, valid_every=1000, valid_sentences=1700, save_every=500),
    decoding=DecodingConfig(beam=5, length_penalty=0.6),
)
