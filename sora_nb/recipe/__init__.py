"""A trained model and all that it needs to answer for a new file: train, save, load, predict, embed.

    mine = recipe.train("videos/", design="C")  # one folder a class
    mine.save("runs/mine")
    recipe.load("runs/mine").predict("new.mp4")

A recipe on disk is two files: JSON that tells how to build the model, how to read a file and what the classes are, and
the weights as safetensors. Nothing in them can run code. Derived in chapter 14.
"""

from sora_nb.recipe.fitting import train
from sora_nb.recipe.model import NONE, Answer, Recipe, load
from sora_nb.recipe.reading import Reading, read_all

__all__ = ["NONE", "Answer", "Reading", "Recipe", "load", "read_all", "train"]
