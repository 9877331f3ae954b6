"""How the backbone learns the language of products."""

from dataclasses import dataclass, field

from peftrec.backbone import native_precision
from peftrec.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Settings of :func:`peftrec.adaptation.adapt_language`; the defaults are meant for any mix of platforms.

    Attributes:
        epochs: Passes over the product texts of all platforms.
        batch_size: Product texts per step; the other texts of a step's batch are the negatives of the contrastive loss.
        learning_rate: Peak rate.
        weight_decay: Decoupled weight decay (AdamW).
        warmup_share: Share of the steps during which the rate rises.
        mask_share: Share of a text's words that are to be guessed; at least one is.
        nsp_weight: Weight of next-sentence prediction beside the masked-language loss. At 0 texts are read one by one.
        contrastive_weight: Weight of the loss that draws products bought together closer than others.
        distillation_weight: Weight of the loss that keeps vectors where they were: 1 - cosine to the original ones.
        temperature: What cosines are divided by in the contrastive loss.
        merge: Share of the adapted weights when they are averaged with the original ones at the end; 1 keeps the adapted
            weights alone. Averaged weights keep more of what the original could do (WiSE-FT, Wortsman et al., 2022; model
            soups, Wortsman et al., 2022).
        sampling: A platform's chance is its number of texts to this power: 1 reads all texts equally often, 0 all
            platforms, however small.
        max_words: Words read of a text, special ones included; two texts read together may have twice as many.
        validation_share: Share of the distinct texts that are held out, chosen by their hash; 0 for none.
        checkpoint_steps: Steps between two checkpoints: what a kill can cost.
        precision: ``bf16`` or ``fp32`` arithmetic; the faster one on this machine when left out.
        seed: Of everything that is drawn.
    """

    epochs: float = 2.0
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    mask_share: float = 0.15
    nsp_weight: float = 0.5
    contrastive_weight: float = 0.3
    distillation_weight: float = 1.0
    temperature: float = 0.05
    merge: float = 1.0
    sampling: float = 0.5
    max_words: int = 64
    validation_share: float = 0.05
    checkpoint_steps: int = 100
    precision: str = field(default_factory=native_precision)
    seed: int = 0

    def __post_init__(self) -> None:
        lowest = {"batch_size": 2, "max_words": 8, "checkpoint_steps": 1, "seed": 0}
        for name, least in lowest.items():
            if not isinstance(getattr(self, name), int) or getattr(self, name) < least:
                _refuse(name, getattr(self, name), f"a whole number of at least {least}")
        for name in ("epochs", "learning_rate", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                _refuse(name, getattr(self, name), "a number above 0")
        for name in ("weight_decay", "nsp_weight", "contrastive_weight", "distillation_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                _refuse(name, getattr(self, name), "0 or more")
        for name in ("warmup_share", "validation_share"):
            if not 0 <= getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "0 to below 1")
        if not 0 < self.mask_share < 1:
            _refuse("mask_share", self.mask_share, "above 0 and below 1")
        if not 0 < self.merge <= 1:
            _refuse("merge", self.merge, "above 0 and up to 1")
        if not 0 <= self.sampling <= 1:
            _refuse("sampling", self.sampling, "0 to 1")
        if self.precision not in ("bf16", "fp32"):
            _refuse("precision", self.precision, "bf16 or fp32")


def _refuse(name: str, value: object, expected: str) -> None:
    default = getattr(LanguageConfig(), name)
    raise ConfigError(f"{name}={value!r}", expected=expected, remedy=f"the default is {name}={default!r}")
