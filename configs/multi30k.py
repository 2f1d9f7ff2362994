"""English to German or French image captions: raw, cased text of Multi30k.

Data: put ``train``, ``val`` and ``test_2016_flickr`` (``.en.gz``, ``.de.gz``, and ``.fr.gz`` for French) into
``data/multi30k/``, or name other files with ``--data.train``, ``--data.valid`` and ``--data.test``.
Size: 2.1 M parameters, trained with R-Drop like ``multi30k_tiny.py``.
Score: sacreBLEU 39.06 into German after 1.7 hours, and 57.54 into French after 1.9 hours without normalization
(test_2016_flickr, beam 4, seed 0, one core of an AMD EPYC).

    python train.py --config configs/multi30k.py
    python train.py --config configs/multi30k.py --workdir runs/multi30k-en-fr --data.target fr
"""

from transformer_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TokenizerConfig, TrainingConfig

config = Config(
    model=ModelConfig(d_model=128, d_ff=256, heads=4, encoder_layers=4, decoder_layers=4, dropout=0.2, norm="pre"),
    data=DataConfig(
        train="data/multi30k/train.{lang}.gz",
        valid="data/multi30k/val.{lang}.gz",
        test="data/multi30k/test_2016_flickr.{lang}.gz",
        batch_tokens=4096,
        max_length=64,
        row_length=40,
    ),
    tokenizer=TokenizerConfig(kind="bpe", size=6000, normalization="text"),
    optimizer=OptimizerConfig(schedule="cosine", factor=1.0, warmup=500),
    training=TrainingConfig(steps=3200, r_drop=4.0, ema=0.998, valid_every=800, valid_sentences=1014, save_every=100),
)
