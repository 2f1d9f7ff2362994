"""English to Italian, sentences from novels: OPUS Books from the Hugging Face hub.

Data: 32,332 pairs, downloaded on first use. The hub has only one split, so the last 2% are reserved for
validation and test. The recipe demonstrates training on a data set from the hub. Do not expect good translations: the
data set is small and literary.
Score: none, because this recipe has not been run.

    python train.py --config configs/opus_books.py
"""

from transformer_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TokenizerConfig, TrainingConfig

config = Config(
    model=ModelConfig(d_model=256, d_ff=1024, heads=4, encoder_layers=3, decoder_layers=3, dropout=0.3, norm="pre"),
    data=DataConfig(
        train="hf://Helsinki-NLP/opus_books:en-it?split=train[:98%]",
        valid="hf://Helsinki-NLP/opus_books:en-it?split=train[98%:99%]",
        test="hf://Helsinki-NLP/opus_books:en-it?split=train[99%:]",
        source="en",
        target="it",
        batch_tokens=4096,
        max_length=128,
        row_length=64,
    ),
    tokenizer=TokenizerConfig(kind="bpe", size=8000, normalization="text"),
    optimizer=OptimizerConfig(schedule="cosine", factor=1.0, warmup=1000),
    training=TrainingConfig(steps=8000, ema=0.995, valid_every=1000, valid_sentences=300),
)
