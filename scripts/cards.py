"""Write the card of each small recipe beside it, as data/checkpoints/DESIGN/card.md.

python scripts/cards.py
"""

from sora_nb import recipe
from sora_nb.files import atomic
from sora_nb.ledger import ROOT
from sora_nb.recipe.cards import model_card

WORDS = {
    "meant for": "the chapters of this book: small generated clips of moving digits",
    "not meant for": "people, streets, or any decision about somebody",
    "people in the data": "two of the nine photographs behind the digits show a person",
    "limits": "one seed; clips of 32 × 32 pixels; chapter 23 attacks it",
}


def card(design: str) -> str:
    """The card of a recipe in data/checkpoints."""
    return model_card(recipe.load(ROOT / "data" / "checkpoints" / design), f"Design {design}, small", WORDS)


def main() -> None:
    for design in "ABCDE":
        with atomic(ROOT / "data" / "checkpoints" / design / "card.md") as temporary:
            temporary.write_text(card(design), encoding="utf-8")


if __name__ == "__main__":
    main()
