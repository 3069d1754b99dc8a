"""Noise with its accounting, and cards that invent nothing."""

import math
import re

import numpy as np
import pytest
from scipy.stats import norm

from sora_nb import recipe
from sora_nb.data import from_folder
from sora_nb.evaluation.privacy import gaussian_delta, gaussian_epsilon
from sora_nb.ledger import ROOT
from sora_nb.recipe.cards import FACTS, MISSING, MODEL_WORDS, data_card, model_card

# ---------------------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize(
    "epsilon,sigma,sensitivity", [(0, 1, 1), (0.5, 2, 1), (1, 0.7, 1), (3, 2, 2), (8, 0.3, 1)]
)
def test_delta_is_the_worst_events_excess(epsilon, sigma, sensitivity):
    """By its definition: max over events of P(S) − exp(ε) P'(S), the event being where the densities differ that much."""
    x = np.linspace(-40, 40, 400_001)
    p, q = norm.pdf(x, sensitivity, sigma), norm.pdf(x, 0, sigma)
    by_hand = np.trapezoid(np.maximum(p - math.exp(epsilon) * q, 0), x)
    assert gaussian_delta(epsilon, sigma, sensitivity) == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("delta", [1e-3, 1e-5])
def test_the_classical_noise_is_more_than_enough(epsilon, delta):
    classical = math.sqrt(2 * math.log(1.25 / delta)) / epsilon  # Dwork & Roth, ε < 1
    assert gaussian_epsilon(delta, classical) < epsilon
    assert gaussian_epsilon(delta, 0.3 * classical) > epsilon


def test_epsilon_is_the_inverse_also_where_exp_overflows():
    for sigma in (0.02, 0.3, 1.0, 10.0):
        epsilon = gaussian_epsilon(1e-5, sigma)
        assert gaussian_delta(epsilon, sigma) == pytest.approx(1e-5, rel=1e-3)
    assert gaussian_epsilon(1e-5, 0.02) > 1000
    assert gaussian_epsilon(0.5, 10.0) == 0


def test_four_releases_are_one_with_half_the_noise():
    assert gaussian_epsilon(1e-5, 2.0, releases=4) == pytest.approx(gaussian_epsilon(1e-5, 1.0))
    assert gaussian_epsilon(1e-5, 2.0, sensitivity=2.0) == pytest.approx(gaussian_epsilon(1e-5, 1.0))


@pytest.mark.parametrize(
    "bad", [dict(epsilon=-1, sigma=1), dict(epsilon=1, sigma=0), dict(epsilon=1, sigma=1, releases=0)]
)
def test_what_is_no_noise_is_refused(bad):
    with pytest.raises(ValueError, match="expected an epsilon of at least 0"):
        gaussian_delta(**bad)
    with pytest.raises(ValueError, match="above 0 and below 1"):
        gaussian_epsilon(0.0, 1.0)


# ---------------------------------------------------------------------------------------------------------- cards

MADE = recipe.load(ROOT / "data" / "checkpoints" / "C")


def rows(card: str) -> dict[str, str]:
    """The rows of a card's tables."""
    return dict(re.findall(r"^\| (.+?) \| (.+) \|$", card, re.MULTILINE))


def test_every_number_of_a_model_card_is_in_the_recipe():
    card = model_card(MADE, "C", {})
    known = str(MADE.facts) + str(vars(MADE.reading)) + f"{MADE.temperature} {MADE.threshold}"
    assert set(re.findall(r"\d+\.\d+|\d+", card)) <= set(re.findall(r"\d+\.\d+|\d+", known))
    said = rows(card)
    assert said["updates"] == str(MADE.facts["updates"])
    assert said["files"] == "training: 2400, validation: 600, test: 600"
    assert said["left out"] == "none"
    assert {said[name] for name in MODEL_WORDS} == {MISSING}


def test_a_fact_that_was_not_recorded_is_named_as_missing():
    from dataclasses import replace

    bare = rows(model_card(replace(MADE, facts={"seed": 7, "sky": "blue"}), "C", {"limits": "a | b"}))
    assert bare["seed"] == "7" and bare["sky"] == "blue"
    assert {bare[fact] for fact in FACTS if fact != "seed"} == {MISSING}
    assert bare["limits"] == "a \\| b"
    assert rows(model_card(MADE, "C", {}, {"attack": {"AUROC": 0.5}}))["attack"] == "AUROC: 0.5"


def test_a_data_card_counts():
    videos = from_folder(ROOT / "data" / "worlds" / "test")
    said = rows(data_card(videos, "worlds", {"licence": "see the folder"}))
    assert said["files"] == str(len(videos.items)) and said["kinds of file"] == ".mp4"
    assert said["class forward"] == str(
        sum(label == videos.classes.index("forward") for _, label in videos.items)
    )
    assert float(said["megabytes"]) == pytest.approx(
        sum(p.stat().st_size for p, _ in videos.items) / 1e6, abs=0.01
    )
    assert said["licence"] == "see the folder" and said["where it comes from"] == MISSING


def test_words_for_which_a_card_has_no_place_are_refused():
    with pytest.raises(ValueError, match="no place for purpose"):
        model_card(MADE, "C", {"purpose": "fun"})


@pytest.mark.parametrize("design", "ABCDE")
def test_the_card_beside_a_recipe_is_the_one_that_its_facts_make(design):
    import sys

    sys.path.insert(0, str(ROOT / "scripts"))
    import cards

    assert (ROOT / "data" / "checkpoints" / design / "card.md").read_text(encoding="utf-8") == cards.card(
        design
    )
