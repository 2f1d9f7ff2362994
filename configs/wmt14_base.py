"""WMT14 English to German: the base model of "Attention Is All You Need" (Vaswani et al. 2017, table 3).

Data: about 4.5 million pairs from TFDS. Install it with
``pip install tensorflow-datasets array_record importlib_resources``. To use the Hugging Face hub instead, give
``--data.train hf://wmt/wmt14:de-en --data.valid hf://wmt/wmt14:de-en --data.test hf://wmt/wmt14:de-en``.
Paper: 65 million parameters, 100,000 updates of about 25,000 target tokens, 12 hours on 8 P100 GPUs, 27.3 BLEU on
newstest2014 (tokenized and compound-split, so not comparable with sacreBLEU).
Differences from the paper: weights are averaged after every update (decay 0.9997 gives the same mean age as the paper's
average of 5 checkpoints), gradients are clipped to norm 1, arithmetic is bfloat16, and BPE is byte-level. A translation
has at most 2 * source + 8 tokens instead of source + 50, where source is the source length.
Hardware: accelerators. The paper reports a training cost of 3.3e18 FLOPs.
Score: none, because this recipe has not been run.

    python train.py --config configs/wmt14_base.py
"""

from transformer_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TokenizerConfig, TrainingConfig

config = Config(
    model=ModelConfig(
        d_model=512, d_ff=2048, heads=8, encoder_layers=6, decoder_layers=6, dropout=0.1, norm="post", dtype="bfloat16"
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
    training=TrainingConfig(steps=100_000, ema=0.9997, log_every=100, valid_every=5000, save_every=1000),
)
