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
    model=ModelConfig(d_model=128, d_ff=512, heads=4, encoder_layers=2, decoder_layers=2, dropout=0.05),
    data=DataConfig(batch_tokens=2048, max_length=64, buckets=3),
    tokenizer=TokenizerConfig(kind="bpe", size=2000),
    optimizer=OptimizerConfig(schedule="cosine", factor=1.5, warmup=300),
    training=TrainingConfig(
        steps=1200,
        ema=0.99,
        label_smoothing=0.1,
        valid_every=600,
        valid_sentences=200,
        random="unsafe_rbg",
    ),
)
