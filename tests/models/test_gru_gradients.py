"""The closed forms agree with sympy and autograd, and the checks reject wrong ones."""

import pytest
import sympy as sp
import torch

from ptb.models import gru_gradients
from ptb.models.gru_gradients import FORMS, MATRICES, SYMBOL, delta, g, h, h2, r, x, z

TINY = 1e-12

# Each of these was handed in somewhere as a solution, or is close to one that was.
WRONG = {
    "h_2 for h_1": ("W_hz", delta * (h - g) * z * (1 - z) * h2),
    "sigma' = s (1 - s^2)": ("W_xz", delta * (h - g) * z * (1 - z**2) * x),
    "z in the other direction": ("W_xz", delta * (g - h) * z * (1 - z) * x),
    "no reset gate": ("W_hg", FORMS["W_hg"] / r),
    "tanh' = 1 - g": ("W_xg", delta * (1 - z) * (1 - g) * x),
    "h_1 once, not twice": ("W_hr", FORMS["W_xr"] / x),
    "W_hr for W_hg": ("W_xr", FORMS["W_xr"] / SYMBOL["W_hg"] * SYMBOL["W_hr"]),
}


@pytest.mark.parametrize("name", MATRICES)
def test_closed_form_is_what_sympy_finds(name):
    assert gru_gradients.residual(name) == 0


@pytest.mark.parametrize("name", MATRICES)
def test_chain_multiplies_to_the_closed_form(name):
    product = delta * sp.prod(derivative for _, derivative in gru_gradients.chain(name))
    assert sp.expand(product - FORMS[name]) == 0


def test_gradient_handed_on_to_the_first_step():
    assert gru_gradients.residual("h_1", gru_gradients.STATE_FORM) == 0
    assert gru_gradients.residual("h_1", delta * z) != 0  # the direct path alone is not all


def test_scalar_forms_agree_with_autograd():
    assert max(gru_gradients.scalar_check().values()) < TINY


def test_vector_forms_agree_with_autograd():
    found = gru_gradients.vector_check(inputs=4, hidden=6, seed=1)
    assert tuple(found) == MATRICES and max(found.values()) < TINY


@pytest.mark.parametrize("case", WRONG)
def test_wrong_forms_are_rejected(case):
    name, form = WRONG[case]
    assert gru_gradients.residual(name, form) != 0
    assert gru_gradients.scalar_check(draws=3, forms={name: form})[name] > 1e-3


def test_vector_check_rejects_a_wrong_form():
    def swapped(v):
        forms = gru_gradients.vector_gradients(v)
        return forms | {"W_hr": forms["W_hr"].T}  # the same shape, the other convention

    found = gru_gradients.vector_check(closed=swapped)
    assert found["W_hr"] > 1e-3 and found["W_xr"] < TINY


def test_transposed_factor_holds_for_scalars_and_for_torchs_gru_alone():
    assert gru_gradients.transposed_error(hidden=1) < TINY
    assert gru_gradients.transposed_error(hidden=7) > 0.1
    assert gru_gradients.transposed_error(hidden=7, reset="after") < TINY


def test_torchs_gru_resets_after_the_product_and_has_the_exercises_z():
    found = gru_gradients.reset_comparison()
    assert max(after for _, after in found.values()) < TINY
    before = {case: difference for case, (difference, _) in found.items()}
    assert before.pop("random weights") > 0.01
    assert max(before.values()) < TINY


def test_torch_step_is_a_gru_cell_of_the_right_layout():
    v = gru_gradients.random_step(3, 4)
    shut = {"W_xz": torch.ones(3, 4).double() * 50, "x_2": torch.ones(3).double()}  # z_2 = 1
    assert torch.allclose(gru_gradients.torch_step(v | shut), v["h_1"])  # so the step copies h_1


def test_chain_latex_shows_symbols_then_values():
    text = gru_gradients.chain_latex("W_xr")
    assert text.startswith("$$") and text.endswith("$$") and text.count("&=") == 2
    assert r"\frac{\partial g_{2}}{\partial r_{2}} \cdot" in text
    assert r"\cdot r_{2} \left(1 - r_{2}\right) x_{2}" in text
