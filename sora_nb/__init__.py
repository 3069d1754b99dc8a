"""Helper package of the book *Video Representations from Scratch*.

Data flows one way: video -> transforms -> data -> layers -> objectives -> models -> features -> training -> evaluation
-> recipe. No module imports one to its right; ``files``, ``settings`` and ``ledger`` stand beside. Each function names
the chapter that derives it.
"""

__version__ = "0.2.0"
