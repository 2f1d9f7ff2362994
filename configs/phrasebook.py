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
    data=DataConfig(batch_tokens=1536, max_length=64, buckets=3),
    tokenizer=TokenizerConfig(kind="bpe", size=4000),
    optimizer=OptimizerConfig(schedule="cosine", factor=1.0, warmup=160),
    training=TrainingConfig(steps=660, ema=0.98, valid_every=330, valid_sentences=100, random="unsafe_rbg"),
)
