"""SoraTransformer, the system of article A: features, visual words, a Transformer encoder, a decoder that asks."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sora_nb.layers.door import ClipsOrFeatures, centered, check_clips
from sora_nb.layers.frames import FrameGrid
from sora_nb.layers.patches import Size, TubeletEmbedding
from sora_nb.layers.position import LearnedPosition, rotary_angles_3d, sinusoidal_3d
from sora_nb.layers.quantize import ProductQuantizer
from sora_nb.layers.transformer import Decoder, Encoder

POSITIONS = ("none", "sinusoidal", "learned", "rotary")
Grid = Float[Tensor, "batch t h w feature"]  # one vector a tubelet


class SoraTransformer(nn.Module):
    """Clips to a representation and class scores, the way article A sketches it. Built in chapter 07.

    frames → grid of features → tubelet (feature_dim) → visual word → token (dim) → position → encoder → decoder → mean
    over queries. The article has one token a frame: ``tubelet=(1, 8, 8)``, which takes in the whole grid.

    The words are off until `start_words` fills their codebook: features worth naming have to be learned first.

    Args:
        classes: number of class scores.
        dim: width of a token, and of the representation.
        heads, depth: of the encoder.
        frames: another frame network in place of the `FrameGrid`: (B, T, C, H, W) → (B, T, frame_dim), or a grid
            (B, T, frame_dim, h, w).
        frame_dim: width of what the frame network gives; 32 for our own, ``dim`` for another unless told.
        tubelet: frames, rows and columns of the grid that make one token; (2, 2, 2), or (1, 1, 1) with ``frames``.
        feature_dim: width of a tubelet's feature, and of a visual word.
        words: size of the codebook; 0 leaves the features continuous.
        groups: words a tubelet, each naming a part of its feature (product code).
        position: "learned", "sinusoidal", "rotary" or "none", over time, height and width.
        where: "before" the encoder, as attention needs it, or "after" it, as the article prints it.
        queries: learned queries of the decoder.
        decoder_depth: blocks of the decoder; 0 averages the encoder's tokens instead.
        max_length: rows of each learned table (steps in time, places in a frame); the others know no limit.
        dropout: in training, inside encoder and decoder.
        center: first take away each clip's mean over time.

    Raises:
        ValueError: for an unknown `position` or `where`, or rotary "after" (it lives inside the encoder).
    """

    def __init__(
        self,
        classes: int,
        *,
        dim: int = 64,
        heads: int = 4,
        depth: int = 2,
        frames: nn.Module | None = None,
        frame_dim: int | None = None,
        tubelet: Size | None = None,
        feature_dim: int = 64,
        words: int = 0,
        groups: int = 1,
        position: str = "learned",
        where: str = "before",
        queries: int = 4,
        decoder_depth: int = 1,
        max_length: int = 64,
        dropout: float = 0.0,
        center: bool = True,
    ):
        super().__init__()
        _check_options(position, where)
        self.width, self.position, self.where, self.center = dim, position, where, center
        own = frames is None
        self.frames = FrameGrid() if own else frames
        frame_dim = frame_dim or (32 if own else dim)
        self.tubelets = TubeletEmbedding(frame_dim, feature_dim, tubelet or ((2, 2, 2) if own else (1, 1, 1)))
        self.quantizer = ProductQuantizer(feature_dim, words, groups, decay=0.95) if words else None
        self.token = nn.Linear(feature_dim, dim)
        tables = 2 if position == "learned" else 0
        self.learned = nn.ModuleList(LearnedPosition(max_length, dim) for _ in range(tables))  # time, place
        self.encoder = Encoder(dim, depth, heads, dropout=dropout)
        self.decoder = Decoder(dim, decoder_depth, heads, queries, dropout=dropout) if decoder_depth else None
        self.head = nn.Linear(dim, classes)

    def featurize(self, clips: ClipsOrFeatures) -> Grid:
        """One feature a tubelet: what a visual word stands for.

        Raises:
            ValueError: the clips have other axes, colours or numbers than the model takes, hold nothing, or do not
                divide into tubelets.
        """
        check_clips(self, clips)
        grid = self.frames(centered(clips) if self.center else clips)  # (B, T, C, H, W) -> (B, T, F, g, g)
        grid = grid[..., None, None] if grid.ndim == 3 else grid  # one feature a frame is a grid of one cell
        return self.tubelets(grid)  # -> (B, t, h, w, F)

    def quantize(self, features: Grid) -> tuple[Grid, Float[Tensor, ""]]:
        """Replace features by visual words once there are any; return them and the commitment loss."""
        if self.quantizer is None or not self.quantizer.initialised:
            return features, features.new_zeros(())
        words = self.quantizer(features)
        return words.vectors, words.loss

    def add_position(self, x: Float[Tensor, "batch t h w dim"]) -> Float[Tensor, "batch t h w dim"]:
        """Add the position code, if it is one that is added."""
        if self.position == "learned":
            time, place = self.learned
            x = time(x.movedim(1, -2)).movedim(-2, 1)  # codes of t
            return place(x.flatten(2, 3)).unflatten(2, x.shape[2:4])  # codes of (h, w)
        if self.position == "sinusoidal":
            return x + sinusoidal_3d(*x.shape[1:], device=x.device).to(x.dtype)
        return x

    def encode(self, tokens: Float[Tensor, "batch t h w dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Run the encoder, with the position code where it belongs or where the article puts it."""
        angles = None
        if self.position == "rotary":
            head_dim = tokens.shape[-1] // self.encoder.blocks[0].attention.heads
            angles = rotary_angles_3d(*tokens.shape[1:4], head_dim, device=tokens.device)
        if self.where == "before":
            return self.encoder(self.add_position(tokens).flatten(1, 3), angles=angles)
        encoded = self.encoder(tokens.flatten(1, 3)).unflatten(1, tokens.shape[1:4])
        return self.add_position(encoded).flatten(1, 3)

    def represent(self, clips: ClipsOrFeatures) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, ""]]:
        """Return one representation a clip, and the codebook's commitment loss (0 without words)."""
        vectors, loss = self.quantize(self.featurize(clips))  # (B, t, h, w, F)
        memory = self.encode(self.token(vectors))  # -> (B, t, h, w, D) -> (B, N, D)
        answers = memory if self.decoder is None else self.decoder(memory)  # -> (B, Q, D)
        return answers.mean(1), loss  # -> (B, D)

    def embed(self, clips: ClipsOrFeatures) -> Float[Tensor, "batch dim"]:
        """Return one representation a clip."""
        return self.represent(clips)[0]

    def forward(
        self, clips: ClipsOrFeatures, losses: bool = False
    ) -> Float[Tensor, "batch classes"] | tuple[Float[Tensor, "batch classes"], Float[Tensor, ""]]:
        """Return class scores (logits); with ``losses``, the codebook's commitment loss too, to be added to the task's."""
        z, loss = self.represent(clips)
        return (self.head(z), loss) if losses else self.head(z)

    @torch.no_grad()
    def start_words(
        self, clips: ClipsOrFeatures, codebook: Float[Tensor, "groups words part"] | None = None
    ) -> None:
        """Fill the codebook from the features of `clips` by k-means, or with `codebook`, and use words from now on.

        Raises:
            ValueError: if the model was built with words=0, or the clips have fewer tubelets than there are words.
        """
        if self.quantizer is None:
            raise ValueError(
                "This model was built with words=0 and has no codebook to start: build it with words=256."
            )
        self.quantizer.initialise(None if codebook is not None else self.features(clips), codebook)

    @torch.no_grad()
    def features(self, clips: ClipsOrFeatures) -> Grid:
        """Return the tubelets' features as evaluation sees them, a few clips at a time."""
        mode, device = self.training, self.token.weight.device
        self.eval()
        features = torch.cat([self.featurize(part.to(device)) for part in clips.split(64)])
        self.train(mode)
        return features

    def words(self, clips: ClipsOrFeatures) -> Int[Tensor, "batch t h w groups"]:
        """Return the visual words of each tubelet, as indices into `quantizer.codebook`.

        Raises:
            ValueError: if the model has no codebook, or an empty one.
        """
        if self.quantizer is None or not self.quantizer.initialised:
            raise ValueError(
                "This model has no visual words yet: train its features, then call start_words(clips)."
            )
        return self.quantizer.codes(self.features(clips))


def _check_options(position: str, where: str) -> None:
    if position not in POSITIONS:
        raise ValueError(f"position must be one of {', '.join(POSITIONS)}, got {position!r}.")
    if where not in ("before", "after") or (where == "after" and position == "rotary"):
        raise ValueError(
            f'where must be "before" or "after" the encoder, and rotary can only be "before", '
            f"got where={where!r} with position={position!r}."
        )
