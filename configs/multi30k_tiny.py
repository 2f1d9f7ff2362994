"""English to German image captions by the small model that peers are measured with in ``benchmarks/``.

Data as for ``multi30k.py``. 2.6 M parameters, post-norm as in the paper: sacreBLEU 33.54, chrF 57.38 on
test_2016_flickr in 13 minutes on 2 cores of an AMD EPYC that did other work as well (Python 3.11, jax 0.10.2, seed 0).

    python train.py --config configs/multi30k_tiny.py
"""

from transformer_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TokenizerConfig, TrainingConfig

config = Config(
    model=ModelConfig(d_model=128, d_ff=256, heads=4, encoder_layers=4, decoder_layers=4, dropout=0.1),
    data=DataConfig(
        train="data/multi30k/train.{lang}.gz",
        valid="data/multi30k/val.{lang}.gz",
        test="data/multi30k/test_2016_flickr.{lang}.gz",
        batch_tokens=4096,
        max_length=64,
        row_length=40,
    ),
    tokenizer=TokenizerConfig(kind="bpe", size=10_000),
    optimizer=OptimizerConfig(schedule="cosine", factor=0.6, warmup=400),
    training=TrainingConfig(steps=1200, ema=0.99, valid_every=400, valid_sentences=500),
)
