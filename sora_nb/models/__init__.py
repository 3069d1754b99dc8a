"""The five designs, each one readable file."""

from sora_nb.models.transformer import SoraTransformer

__all__ = ["SoraTransformer"]
