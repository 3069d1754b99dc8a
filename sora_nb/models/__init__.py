"""The five designs, each one readable file, and a baseline that cannot see time."""

from sora_nb.models.autoencoder import SoraAutoencoder
from sora_nb.models.baseline import MeanPool
from sora_nb.models.contrastive import SoraContrastive
from sora_nb.models.fusion import SoraFusion
from sora_nb.models.gru import SoraGRU
from sora_nb.models.transformer import SoraTransformer

__all__ = [
    "MeanPool",
    "SoraAutoencoder",
    "SoraContrastive",
    "SoraFusion",
    "SoraGRU",
    "SoraTransformer",
]
