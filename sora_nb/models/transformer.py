"""SoraTransformer, the system of article A: frames, visual words, a Transformer encoder, a decoder that asks."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sora_nb.layers.frames import FrameCNN
from sora_nb.layers.position import LearnedPosition, rotary_angles, sinusoidal
from sora_nb.layers.quantize import VectorQuantizer, nearest_code
from sora_nb.layers.transformer import Decoder, Encoder

POSITIONS = ("none", "sinusoidal", "learned", "rotary")


class SoraTransformer(nn.Module):
    """Clips to a representation and class scores, the way article A sketches it. Built in chapter 07.

    frames → CNN feature (frame_dim) → visual word → token (dim) → position → encoder → decoder → mean over queries.

    The quantiser is off until `start_words` fills its codebook: features worth quantising have to be learned first.
    In training add `auxiliary_loss`, the quantiser's commitment loss of the last forward pass, to the task's loss.

    Args:
        classes: number of class scores.
        frame_dim: width of a frame's feature, and of a visual word.
        dim: width of a token, and of the representation.
        words: size of the codebook; 0 leaves the features continuous.
        position: "none", "sinusoidal", "learned" or "rotary".
        where: "before" the encoder, as attention needs it, or "after" it, as the article prints it.
        queries: learned queries of the decoder.
        decoder_depth: blocks of the decoder; 0 averages the encoder's tokens instead.
        max_length: positions of the learned table.
        frames: another network (B, T, C, H, W) → (B, T, frame_dim) in place of the `FrameCNN`.

    Raises:
        ValueError: for an unknown `position` or `where`, or rotary "after" (it lives inside the encoder).
    """

    def __init__(
        self,
        classes: int = 12,
        frame_dim: int = 128,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
        words: int = 128,
        position: str = "sinusoidal",
        where: str = "before",
        queries: int = 4,
        decoder_depth: int = 1,
        max_length: int = 64,
        dropout: float = 0.0,
        frames: nn.Module | None = None,
    ):
        super().__init__()
        if position not in POSITIONS:
            raise ValueError(f"position must be one of {', '.join(POSITIONS)}, got {position!r}.")
        if where not in ("before", "after") or (where == "after" and position == "rotary"):
            raise ValueError(
                f'where must be "before" or "after" the encoder, and rotary can only be "before", '
                f"got where={where!r} with position={position!r}."
            )
        self.position, self.where = position, where
        self.frames = FrameCNN(frame_dim) if frames is None else frames
        self.quantizer = VectorQuantizer(frame_dim, words, decay=0.95) if words else None
        self.token = nn.Linear(frame_dim, dim)
        self.learned = LearnedPosition(max_length, dim) if position == "learned" else None
        self.encoder = Encoder(dim, depth, heads, dropout=dropout)
        self.decoder = Decoder(dim, decoder_depth, heads, queries, dropout=dropout) if decoder_depth else None
        self.classify = nn.Linear(dim, classes)
        self.auxiliary_loss = torch.zeros(())

    def add_position(self, x: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        """Add the position code, if it is one that is added."""
        if self.position == "learned":
            return self.learned(x)
        if self.position == "sinusoidal":
            return x + sinusoidal(x.shape[1], x.shape[2], device=x.device)
        return x

    def quantize(self, features: Float[Tensor, "batch time frame"]) -> Float[Tensor, "batch time frame"]:
        """Replace features by visual words once there are any, and store the commitment loss."""
        if self.quantizer is None or not self.quantizer.initialised:
            self.auxiliary_loss = features.new_zeros(())
            return features
        words = self.quantizer(features)
        self.auxiliary_loss = words.loss
        return words.vectors

    def encode(self, tokens: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        """Run the encoder, with the position code where it belongs or where the article puts it."""
        angles = None
        if self.position == "rotary":
            head_dim = tokens.shape[2] // self.encoder.blocks[0].attention.heads
            angles = rotary_angles(tokens.shape[1], head_dim, device=tokens.device)
        if self.where == "before":
            return self.encoder(self.add_position(tokens), angles=angles)
        return self.add_position(self.encoder(tokens))

    def embed(self, clips: Float[Tensor, "batch time channels height width"]) -> Float[Tensor, "batch dim"]:
        """Return one representation a clip."""
        features = self.frames(clips)  # (B, T, C, H, W) -> (B, T, F)
        memory = self.encode(self.token(self.quantize(features)))  # (B, T, F) -> (B, T, D)
        answers = memory if self.decoder is None else self.decoder(memory)  # (B, T, D) -> (B, Q, D)
        return answers.mean(1)  # -> (B, D)

    def forward(
        self, clips: Float[Tensor, "batch time channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Return class scores (logits)."""
        return self.classify(self.embed(clips))

    @torch.no_grad()
    def start_words(
        self,
        clips: Float[Tensor, "batch time channels height width"],
        codebook: Float[Tensor, "words frame"] | None = None,
    ) -> None:
        """Fill the codebook from the features of `clips` by k-means, or with `codebook`, and quantise from now on.

        Raises:
            ValueError: if the model was built with words=0, or the clips have fewer frames than there are words.
        """
        if self.quantizer is None:
            raise ValueError(
                "This model was built with words=0 and has no codebook to start: build it with words=128."
            )
        self.quantizer.initialise(None if codebook is not None else self.features(clips), codebook)

    @torch.no_grad()
    def features(
        self, clips: Float[Tensor, "batch time channels height width"]
    ) -> Float[Tensor, "batch time frame"]:
        """Return the frames' features as evaluation sees them, a few clips at a time."""
        mode, device = self.training, self.token.weight.device
        self.eval()
        features = torch.cat([self.frames(part.to(device)) for part in clips.split(64)])
        self.train(mode)
        return features

    def words(self, clips: Float[Tensor, "batch time channels height width"]) -> Int[Tensor, "batch time"]:
        """Return the visual word of each frame, as an index into `quantizer.codebook`.

        Raises:
            ValueError: if the model has no codebook, or an empty one.
        """
        if self.quantizer is None or not self.quantizer.initialised:
            raise ValueError(
                "This model has no visual words yet: train its features, then call start_words(clips)."
            )
        return nearest_code(self.features(clips), self.quantizer.codebook)
