"""English to French, Canadian parliament: a word-alignment model that trains on a laptop.

Data: 200,000 tokenized training pairs of the Hansards. Validation and test sets are the same 137 hand-aligned pairs of
the shared task of Mihalcea and Pedersen 2003. Put ``train.en.gz``, ``train.fr.gz``, ``align-dev.en``,
``align-dev.fr`` and ``align-dev.align`` into ``data/hansards-en-fr/``.
Size: 2.4 M parameters.
Score: alignment error rate 0.147 with the models of both directions combined (docs/results/alignment.md). Each model
was trained for 3.5 hours on one core of an AMD EPYC that also ran other programs.

    python train.py --config configs/hansards.py
    python train.py --config configs/hansards.py --workdir runs/hansards-fr-en --data.source fr --data.target en
"""

from transformer_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TokenizerConfig, TrainingConfig

config = Config(
    model=ModelConfig(d_model=128, d_ff=512, heads=4, encoder_layers=3, decoder_layers=3, dropout=0.1, norm="pre"),
    data=DataConfig(
        train="data/hansards-en-fr/train.{lang}.gz",
        valid="data/hansards-en-fr/align-dev.{lang}",
        test="data/hansards-en-fr/align-dev.{lang}",
        source="en",
        target="fr",
        batch_tokens=2048,
        max_length=64,
        row_length=64,
    ),
    tokenizer=TokenizerConfig(kind="bpe", size=8000),
    optimizer=OptimizerConfig(schedule="cosine", factor=1.0, warmup=1000),
    training=TrainingConfig(steps=14_000, ema=0.998, valid_every=2000, valid_sentences=137),
)
