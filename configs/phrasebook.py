"""English to German on the embedded phrasebook: a first model in minutes, on any machine."""

from transformer_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TokenizerConfig,
    TrainingConfig,
)

config = Config(
    model=ModelConfig(d_model=128, d_ff=256, heads=4, encoder_layers=2, decoder_layers=2, dropout=0.05, norm="pre"),
    data=DataConfig(batch_tokens=2048, max_length=64, buckets=3),
    tokenizer=TokenizerConfig(kind="bpe", size=4000),
    optimizer=OptimizerConfig(schedule="cosine", factor=1.0, warmup=200),
    training=TrainingConfig(steps=1000, ema=0.98, valid_every=500, valid_sentences=200, random="unsafe_rbg"),
)
