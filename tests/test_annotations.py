"""The annotations of the package are run by all tests: what is wrong is found, and what is refused keeps its own words."""

import annotations
import jaxtyping
import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from sora_nb.layers.attention import attention
from sora_nb.layers.position import sinusoidal
from sora_nb.models import SoraTransformer


def test_the_checker_is_installed():
    assert annotations.AVAILABLE, "run 'make set-up': beartype is part of the test requirements"
    assert hasattr(sinusoidal, "__wrapped__") and hasattr(SoraTransformer.forward, "__wrapped__")


def halve(x: Float[Tensor, "batch time"]) -> Float[Tensor, "batch"]:  # noqa: F821
    if x.ndim != 2:
        raise ValueError("halve expects two axes")
    return x[0]


def test_a_wrong_annotation_is_found_and_a_refusal_keeps_its_words():
    checked = annotations.patient(halve, typechecker=annotations.check)
    assert checked(torch.ones(3, 3)).shape == (3,)  # by chance
    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        checked(torch.ones(2, 3))
    with pytest.raises(jaxtyping.TypeCheckError, match="parameters"):
        checked(torch.ones(3, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="two axes"):
        checked(torch.ones(3))


def test_the_package_is_checked():
    heads = torch.randn(2, 3, 5, 4)
    with pytest.raises(jaxtyping.TypeCheckError, match="attention"):
        attention(heads[0], heads[0], heads[0])
    with pytest.raises(jaxtyping.TypeCheckError, match="sinusoidal"):
        sinusoidal(np.float64(3.5), 4)
