"""Run the package's annotations: each call in the tests is checked against the types, dtypes and shapes it promises.

jaxtyping's import hook decorates every function of sora_nb, and beartype looks at what goes in and comes out. One thing
differs from the hook as it comes: a function that refuses a bad argument in words of its own may do so. A bad argument
that it takes without a word is an error, and so is a result other than the annotated one.
"""

import functools
import importlib.util
import inspect
import random
import sys

import jaxtyping

AVAILABLE = importlib.util.find_spec("beartype") is not None
strict = jaxtyping.jaxtyped


def check(function):
    """beartype, to which a whole number is a float, as it is to Python's own types."""
    from beartype import BeartypeConf, beartype

    return beartype(conf=BeartypeConf(is_pep484_tower=True))(function)


def patient(function=None, *, typechecker):
    """`jaxtyping.jaxtyped` that lets a function speak first."""
    if function is None:
        return functools.partial(patient, typechecker=typechecker)
    checked = strict(function, typechecker=typechecker)
    if not inspect.isfunction(function):
        return checked

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return checked(*args, **kwargs)
        except jaxtyping.TypeCheckError:
            function(*args, **kwargs)  # raises, if it refuses the argument itself
            raise

    return call


def own_randomness() -> None:
    """beartype looks at one item of a list, drawn at random: let it draw from a generator of its own, not from ours."""
    own = random.Random(0).getrandbits
    import beartype.door  # noqa: F401  loads the modules that hold the function

    for name, module in list(sys.modules.items()):
        if name.startswith("beartype.") and vars(module).get("getrandbits") == random.getrandbits:
            module.getrandbits = own


def install() -> None:
    """Check every module of the package that is imported from now on."""
    own_randomness()
    jaxtyping.jaxtyped = patient
    jaxtyping.install_import_hook("sora_nb", f"{__name__}.check")
