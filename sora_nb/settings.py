"""One notebook, three sizes: the settings of tier T0 (CPU), T1 (one small GPU) and T2 (full)."""

import os
from types import SimpleNamespace

TIERS = ("T0", "T1", "T2")


def tier() -> str:
    """Return the tier named by the environment variable ``SORA_NB_TIER`` ("T0" when unset). Used from chapter 03 on.

    Raises:
        ValueError: the variable holds anything but T0, T1 or T2.
    """
    name = os.environ.get("SORA_NB_TIER", "T0")
    if name not in TIERS:
        raise ValueError(f"SORA_NB_TIER is {name!r}; expected one of {', '.join(TIERS)}.")
    return name


def settings(T0: dict, T1: dict | None = None, T2: dict | None = None) -> SimpleNamespace:
    """Return the sizes of the tier in force: T0's values, overridden by T1's, then by T2's.

    Only sizes may differ between tiers, so a key that T0 lacks is an error. Used from chapter 03 on.

    Raises:
        ValueError: T1 or T2 names a setting that T0 does not have.
    """
    chosen = dict(T0)
    for override in (T1 or {}, T2 or {})[: TIERS.index(tier())]:
        unknown = sorted(set(override) - set(T0))
        if unknown:
            raise ValueError(f"A larger tier sets {unknown}, which T0 does not have; give T0 a value first.")
        chosen.update(override)
    return SimpleNamespace(**chosen)
