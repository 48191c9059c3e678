"""A sentence stands where its condition holds; a published report fails to build otherwise."""

import math

import numpy as np
import pytest

from ptb.errors import ClaimError, counted
from ptb.report.claim import OWN_PLACE, Claims, bullets, listed, paragraph, signed


@pytest.mark.parametrize("published", [True, False])
def test_a_claim_that_holds_is_its_text(published):
    assert Claims(published)(np.bool_(True), "It rose.", "It fell.") == "It rose."


@pytest.mark.parametrize("condition", [False, math.nan < 1, math.nan > 1])
def test_a_published_report_fails_with_the_sentence_that_does_not_hold(condition):
    with pytest.raises(ClaimError, match="“It rose.”"):
        Claims(published=True)(condition, "It rose.", "It fell.")


def test_a_report_on_own_runs_leaves_out_what_does_not_hold():
    claim = Claims(published=False)
    assert claim(False, "It rose.") == "" and claim(False, "It rose.", "It fell.") == "It fell."
    assert bullets(claim(True, "One."), claim(False, "Two."), "Three.").data == "- One.\n- Three."
    assert paragraph(claim(True, "One."), claim(False, "Two."), "Three.").data == "One. Three."


def test_of_too_short_a_text_nothing_is_claimed():
    claim = Claims(published=False, enough=False)
    assert claim(True, "It rose.") == "" and claim(True, "It rose.", "Who knows.") == "Who knows."


def test_own_conclusions_have_a_place_on_own_runs_alone():
    assert Claims(published=False).conclusions("").data == OWN_PLACE
    assert Claims(published=False).conclusions("We saw.").data == "We saw."
    assert Claims(published=True).conclusions("").data == ""


def test_numbers_read_as_in_a_sentence():
    assert signed(-1.25, "+.1f") == "−1.2" and signed(1.25, "+.1f") == "+1.2"
    assert counted(1, "epoch") == "1 epoch" and counted(1300, "token") == "1,300 tokens"
    assert listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b and c"
