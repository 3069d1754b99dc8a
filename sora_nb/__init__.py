"""Helper package of the book *Video Representations from Scratch*.

Data flows one way: video -> transforms -> data -> layers -> models -> training -> evaluation and plots.
No module imports one to its right. Each function names the chapter that derives it.
"""

__version__ = "0.1.0"
