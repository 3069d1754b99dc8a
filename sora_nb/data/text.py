"""Words as numbers: what a network needs to read and write short sentences. Derived in chapter 19."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

PAD, BEGIN, END, UNKNOWN = range(4)


class Vocabulary:
    """The words of some sentences, numbered in alphabetical order behind four signs.

    The signs are `PAD` (nothing), `BEGIN`, `END` and `UNKNOWN` (any other word). Derived in chapter 19.

    Args:
        sentences: words separated by blanks; case and the marks , . ? count for nothing.

    Attributes:
        words: word of each number.
    """

    def __init__(self, sentences: Iterable[str]):
        seen = sorted({word for sentence in sentences for word in split(sentence)})
        self.words = ["<pad>", "<begin>", "<end>", "<unknown>", *seen]
        self._number = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentences: Sequence[str]) -> Int64[Tensor, "sentence longest"]:
        """One row a sentence: BEGIN, its words, END, then PAD up to the longest one's length.

        Raises:
            ValueError: there is no sentence.
        """
        if not sentences:
            raise ValueError("encode got no sentence; give it at least one.")
        rows = [[BEGIN, *(self._number.get(w, UNKNOWN) for w in split(s)), END] for s in sentences]
        longest = max(map(len, rows))
        return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])

    def decode(self, rows: Int64[Tensor, "sentence length"]) -> list[str]:
        """The sentences of some rows: what stands before the first END, without the signs."""
        sentences = []
        for row in rows.tolist():
            until = row[: row.index(END)] if END in row else row
            sentences.append(" ".join(self.words[i] for i in until if i not in (PAD, BEGIN)))
        return sentences


def split(sentence: str) -> list[str]:
    """Words of a sentence in small letters, without the marks , . ? Derived in chapter 19."""
    return "".join(c for c in sentence.lower() if c not in ",.?").split()
