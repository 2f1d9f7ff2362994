"""English to German on the built-in phrasebook: a first model in minutes on any machine.

Size: 1.2 M parameters.
Score: sacreBLEU 99.70 and chrF 99.87 on the test split (beam 4, seed 0) after 2.6 minutes on 2 cores of an AMD EPYC,
including compilation (jax 0.10.2), measured before normalization.

    python train.py
"""

from transformer_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TokenizerConfig, TrainingConfig

config = Config(
    model=ModelConfig(d_model=128, d_ff=256, heads=4, encoder_layers=2, decoder_layers=2, dropout=0.0, norm="pre"),
    data=DataConfig(batch_tokens=1536, max_length=64, row_length=32),
    tokenizer=TokenizerConfig(kind="bpe", size=4000, normalization="text"),
    optimizer=OptimizerConfig(schedule="cosine", factor=1.0, warmup=160),
    training=TrainingConfig(steps=1100, ema=0.98, valid_every=550, valid_sentences=100),
)
