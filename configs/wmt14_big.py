"""WMT14 English to German: the big model of "Attention Is All You Need" (Vaswani et al. 2017, table 3).

Data: as for ``configs/wmt14_base.py``.
Paper: 213 million parameters, 300,000 updates of about 25,000 target tokens, 3.5 days on 8 P100 GPUs, 28.4 BLEU on
newstest2014 (tokenized and compound-split, so not comparable with sacreBLEU).
Differences from the paper: weights are averaged after every update (decay 0.9998 gives the same mean age as the paper's
average of 20 checkpoints), gradients are clipped to norm 1, arithmetic is bfloat16, and BPE is byte-level. A
translation has at most 2 * source + 8 tokens instead of source + 50, where source is the source length.
Hardware: several accelerators. On accelerators with little memory, add ``--training.remat blocks``: according to the
TPU's compiler, a step of 24,576 target positions then takes 7.1 GB on one v6e.
Score: none, because this recipe has not been run.

    python train.py --config configs/wmt14_big.py
"""

from transformer_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TokenizerConfig, TrainingConfig

config = Config(
    model=ModelConfig(
        d_model=1024,
        d_ff=4096,
        heads=16,
        encoder_layers=6,
        decoder_layers=6,
        dropout=0.3,
        norm="post",
        dtype="bfloat16",
    ),
    data=DataConfig(
        train="tfds://wmt14_translate/de-en",
        valid="tfds://wmt14_translate/de-en",
        test="tfds://wmt14_translate/de-en",
        source="en",
        target="de",
        batch_tokens=25_000,
        max_length=256,
        row_length=256,
    ),
    tokenizer=TokenizerConfig(kind="bpe", vocabulary="joint", size=37_000, normalization="text"),
    optimizer=OptimizerConfig(schedule="inverse_sqrt", factor=1.0, warmup=4000),
    training=TrainingConfig(steps=300_000, ema=0.9998, log_every=100, valid_every=10_000, save_every=1000),
)
