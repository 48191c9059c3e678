"""The gradients of one GRU step: derived by hand, confirmed by sympy and by autograd.

Equations, names and the convention y = W^T x are those of the exercise "EX 2 - RNN", question 4,
without biases. At the second time step, with h_1 and delta = d eps_2 / d h_2 given:

    z_2 = sigmoid(W_xz^T x_2 + W_hz^T h_1)             r_2 = sigmoid(W_xr^T x_2 + W_hr^T h_1)
    g_2 = tanh(W_xg^T x_2 + W_hg^T (r_2 * h_1))        h_2 = z_2 * h_1 + (1 - z_2) * g_2

h_1 counts as an input here: the gradients are those of the second step alone.
"""

import sympy as sp
import torch
from torch import nn

MATRICES = ("W_xz", "W_hz", "W_xg", "W_hg", "W_xr", "W_hr")  # in the exercise's order, (a) to (f)
QUANTITIES = ("x_2", "h_1", "delta", *MATRICES, "z_2", "g_2", "r_2", "h_2")
SYMBOL = {name: sp.Symbol(name, real=True) for name in QUANTITIES}
x, h, delta, W_xz, W_hz, W_xg, W_hg, W_xr, W_hr, z, g, r, h2 = SYMBOL.values()

# ---------------------------------------------------------------- scalars, symbolic (sympy)
INSIDE = {  # what each node is computed from: the argument of its sigmoid or tanh; h_2 has none
    z: W_xz * x + W_hz * h,
    g: W_xg * x + W_hg * r * h,
    r: W_xr * x + W_hr * h,
    h2: z * h + (1 - z) * g,
}
SLOPE = {z: z * (1 - z), g: 1 - g**2, r: r * (1 - r), h2: 1}  # of that function, by its own value
PATH = {"z": (h2, z), "g": (h2, g), "r": (h2, g, r)}  # from h_2 down to the gate of a weight

V = delta * (1 - z) * (1 - g**2)  # the error at the candidate's argument, common to (c)-(f)
FORMS = {  # the answers: d eps_2 / d W in closed form
    "W_xz": delta * (h - g) * z * (1 - z) * x,
    "W_hz": delta * (h - g) * z * (1 - z) * h,
    "W_xg": V * x,
    "W_hg": V * r * h,
    "W_xr": V * W_hg * h * r * (1 - r) * x,
    "W_hr": V * W_hg * h * r * (1 - r) * h,
}
# d eps_2 / d h_1, what full back-propagation through time hands on to the first step
STATE_FORM = delta * (z + (h - g) * z * (1 - z) * W_hz) + V * W_hg * (r + h * r * (1 - r) * W_hr)


def derivative(name):
    """delta * dh_2/d`name` as sympy finds it: every gate written out, differentiated, put back."""
    sigmoid = {gate: 1 / (1 + sp.exp(-INSIDE[gate])) for gate in (z, r)}
    written_out = INSIDE[h2].subs(g, sp.tanh(INSIDE[g])).subs(sigmoid)
    slope = delta * sp.diff(written_out, SYMBOL[name])
    put_back = {sp.exp(-INSIDE[gate]): 1 / gate - 1 for gate in (z, r)}
    return slope.subs(put_back).subs(sp.tanh(INSIDE[g]), g)


def residual(name, form=None):
    """sympy's derivative minus `form` (by default ours), expanded: 0 where the two agree."""
    form = FORMS[name] if form is None else form
    return sp.expand(derivative(name) - form.subs(h2, INSIDE[h2]))


def chain(name):
    """The chain rule from h_2 to the weight `name`: a list of (symbol in LaTeX, local derivative).

    The derivatives' product times delta is the closed form.
    """
    steps = []
    nodes = (*PATH[name[-1]], SYMBOL[name])
    for above, below in zip(nodes, nodes[1:], strict=False):
        label = rf"\frac{{\partial {sp.latex(above)}}}{{\partial {sp.latex(below)}}}"
        factors = [f for f in (SLOPE[above], sp.diff(INSIDE[above], below)) if f != 1]
        steps.append((label, sp.Mul(*factors, evaluate=False)))  # in the order of the chain rule
    return steps


def chain_latex(*names):
    """The chain of each weight in `names` as a display formula: the symbols, then their values."""
    formulas = []
    for name in names:
        labels, steps = zip(*chain(name), strict=True)
        values = [sp.latex(step, order="none") for step in steps]
        pairs = zip(steps, values, strict=True)
        values = [rf"\left({v}\right)" if step.is_Add else v for step, v in pairs]
        left = rf"\frac{{\partial \varepsilon_2}}{{\partial {sp.latex(SYMBOL[name])}}}"
        lines = [r" \cdot ".join((r"&= \delta", *factors)) for factors in (labels, values)]
        formulas.append(rf"\begin{{aligned}} {left} {lines[0]} \\ {lines[1]} \end{{aligned}}")
    return "\n\n".join(f"$$ {formula} $$" for formula in formulas)


# ---------------------------------------------------------------- vectors, numeric (torch, float64)
def random_step(inputs, hidden, seed=0):
    """Random x_2 (I,), h_1 and delta (H,), W_x. (I, H) and W_h. (H, H), float64, by name."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x_2": (inputs,), "h_1": (hidden,), "delta": (hidden,)}
    shapes |= {w: (inputs if w[2] == "x" else hidden, hidden) for w in MATRICES}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def exercise_step(v, reset="before"):
    """h_2, z_2, g_2, r_2, each (H,), from the named tensors `v` of random_step.

    reset="before" the product with W_hg is the exercise's; "after" it is torch's and cuDNN's.
    """
    x, h = v["x_2"], v["h_1"]
    z = torch.sigmoid(v["W_xz"].T @ x + v["W_hz"].T @ h)
    r = torch.sigmoid(v["W_xr"].T @ x + v["W_hr"].T @ h + v.get("b_r", 0))
    carried = v["W_hg"].T @ (r * h) if reset == "before" else r * (v["W_hg"].T @ h)
    g = torch.tanh(v["W_xg"].T @ x + carried)
    return z * h + (1 - z) * g, z, g, r


def autograd_gradients(v, reset="before"):
    """d eps_2 / d W for the six weights as autograd finds them, eps_2 = delta . h_2."""
    leaves = {name: v[name].clone().requires_grad_() for name in MATRICES}
    error = v["delta"] @ exercise_step(v | leaves, reset)[0]
    return dict(zip(MATRICES, torch.autograd.grad(error, list(leaves.values())), strict=True))


def scalar_gradients(v, forms=FORMS):
    """The scalar closed forms `forms` at the numbers `v` (I = H = 1), each as a (1, 1) tensor."""
    h2, z, g, r = exercise_step(v)
    values = [t.reshape(1, 1) for t in (*v.values(), z, g, r, h2)]  # in the order of QUANTITIES
    return {name: sp.lambdify(SYMBOL.values(), form)(*values) for name, form in forms.items()}


def vector_gradients(v):
    """The six closed forms in vectors: for a = W^T u, d eps / d W = u (d eps / d a)^T."""
    x, h, delta = v["x_2"], v["h_1"], v["delta"]  # (I,), (H,), (H,)
    _, z, g, r = exercise_step(v)
    u_z = delta * (h - g) * z * (1 - z)  # (H,), the error at the argument of z_2
    u_g = delta * (1 - z) * (1 - g**2)  # (H,), of g_2: the v of the text
    u_r = (v["W_hg"] @ u_g) * h * r * (1 - r)  # (H,), of r_2: W_hg itself, not its transpose
    outer = torch.outer  # (I or H, H), the shape of the weight
    return {
        "W_xz": outer(x, u_z), "W_hz": outer(h, u_z),
        "W_xg": outer(x, u_g), "W_hg": outer(r * h, u_g),
        "W_xr": outer(x, u_r), "W_hr": outer(h, u_r),
    }  # fmt: skip


def largest_difference(ours, theirs):
    """The largest absolute difference of two dicts of gradients, for each weight."""
    return {name: (ours[name] - theirs[name]).abs().max().item() for name in ours}


def scalar_check(draws=20, forms=FORMS):
    """Closed forms against autograd for `draws` random scalar steps: the worst for each weight."""
    steps = [random_step(1, 1, seed) for seed in range(draws)]
    found = [largest_difference(scalar_gradients(v, forms), autograd_gradients(v)) for v in steps]
    return {name: max(f[name] for f in found) for name in forms}


def vector_check(inputs=5, hidden=7, seed=0, closed=vector_gradients):
    """The vector closed forms against autograd, for each weight."""
    v = random_step(inputs, hidden, seed)
    return largest_difference(closed(v), autograd_gradients(v))


def transposed_error(hidden, reset="before"):
    """How far "W_hg^T h_1" is off as the factor in d eps_2 / d W_xr: |wrong - true| / |true|.

    The true factor for reset="before" is (W_hg v) * h_1, and v * (W_hg^T h_1) for reset="after".
    """
    v = random_step(5, hidden, seed=0)
    _, z, g, r = exercise_step(v, reset)
    u_g = v["delta"] * (1 - z) * (1 - g**2)
    wrong = torch.outer(v["x_2"], u_g * (v["W_hg"].T @ v["h_1"]) * r * (1 - r))
    true = autograd_gradients(v, reset)["W_xr"]
    return ((wrong - true).norm() / true.norm()).item()


# ---------------------------------------------------------------- torch's GRU and the exercise's
def torch_step(v):
    """h_2 (H,) from nn.GRUCell with the weights of `v`; biases 0, except b_r where `v` has one."""
    inputs, hidden = v["W_xz"].shape
    cell = nn.utils.skip_init(nn.GRUCell, inputs, hidden, dtype=torch.float64)  # draws nothing
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.weight_ih.copy_(torch.cat([v[f"W_x{gate}"].T for gate in "rzg"]))  # (3H, I)
        cell.weight_hh.copy_(torch.cat([v[f"W_h{gate}"].T for gate in "rzg"]))  # (3H, H)
        cell.bias_ih[:hidden] = v.get("b_r", 0)
        return cell(v["x_2"], v["h_1"])


def reset_comparison(hidden=6, inputs=5):
    """Case -> (largest |h_2 - torch's| with the reset before, the same with it after)."""
    v = random_step(inputs, hidden, seed=0)
    half = {"W_xr": torch.zeros_like(v["W_xr"]), "W_hr": torch.zeros_like(v["W_hr"])}
    cases = {
        "random weights": v,
        "r = 1 in every unit": v | {"b_r": torch.tensor(50.0).double()},  # sigmoid(50) rounds to 1
        "r = 1/2 in every unit": v | half,
        "W_hg diagonal": v | {"W_hg": v["W_hg"].diag().diag()},
        "one unit": random_step(inputs, 1, seed=0),
        "h = 0, as at the start": v | {"h_1": torch.zeros_like(v["h_1"])},
    }
    return {
        name: tuple(
            (exercise_step(case, reset)[0] - torch_step(case)).abs().max().item()
            for reset in ("before", "after")
        )
        for name, case in cases.items()
    }
