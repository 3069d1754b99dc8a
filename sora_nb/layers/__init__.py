"""The building blocks of the five designs. Import them from their modules; the usual ones are gathered here."""

from sora_nb.layers.attention import (
    DividedAttention,
    MultiHeadAttention,
    attention_weights,
    block_macs,
    joint_attention,
    naive_attention,
    space_attention,
    time_attention,
)
from sora_nb.layers.frames import FrameCNN, ResidualBlock
from sora_nb.layers.position import (
    LearnedPosition,
    apply_rotary,
    rotary_angles,
    rotary_angles_3d,
    sinusoidal,
    sinusoidal_3d,
)
from sora_nb.layers.quantize import VectorQuantizer, perplexity, usage
from sora_nb.layers.transformer import Decoder, DecoderBlock, DividedBlock, Encoder, EncoderBlock, FeedForward

__all__ = [
    "Decoder",
    "DecoderBlock",
    "DividedAttention",
    "DividedBlock",
    "Encoder",
    "EncoderBlock",
    "FeedForward",
    "FrameCNN",
    "LearnedPosition",
    "MultiHeadAttention",
    "ResidualBlock",
    "VectorQuantizer",
    "apply_rotary",
    "attention_weights",
    "block_macs",
    "joint_attention",
    "naive_attention",
    "perplexity",
    "rotary_angles",
    "rotary_angles_3d",
    "sinusoidal",
    "sinusoidal_3d",
    "space_attention",
    "time_attention",
    "usage",
]
