"""ptb.models.layers: over a sequence, the cells' and torch's functions, and all their gradients."""

import re

import pytest
import torch
from test_cells import LAYERS

from ptb.models import kernels
from ptb.models.cells import CELLS, find_cell
from ptb.models.layers import Linear, Recurrent, drop

KINDS = (("lstm", "after"), ("gru", "after"), ("gru", "before"), ("rnn", "after"))
SIZES = [(1, 1, 1, 1), (5, 1, 3, 2), (1, 4, 2, 3), (7, 3, 5, 4), (6, 2, 1, 9)]  # T, B, I, H
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def make(cell, sizes, dtype=torch.float64, scale=1.0, biases=2):
    """A layer, its input and its state, all to be differentiated."""
    steps, batch, inputs, hidden = sizes
    torch.manual_seed(1)
    layer = Recurrent(cell[0], inputs, hidden, cell[1], biases).to(dtype)
    for weights in layer.parameters():
        torch.nn.init.uniform_(weights, -scale, scale)
    x = torch.randn(steps, batch, inputs, dtype=dtype, requires_grad=True)
    state = tuple(
        torch.randn(batch, hidden, dtype=dtype, requires_grad=True)
        for _ in layer.initial_state(batch)
    )
    return layer, x, state


def by_steps(layer, x, state):
    """The same, step by step, by ptb.models.cells."""
    weights, outputs = [getattr(layer, name) for name in WEIGHTS], []
    for x_t in x:
        state = layer.cell.step(x_t, *state, *weights)
        state = state if layer.name == "lstm" else (state,)
        outputs.append(state[0])
    return torch.stack(outputs), state


def by_torch(layer, x, state):
    """The same by nn.LSTM, nn.GRU or nn.RNN with the layer's own parameters."""
    theirs = LAYERS[layer.name](x.shape[2], layer.hidden, dtype=x.dtype)
    own = {f"{name}_l0": getattr(layer, name) for name in WEIGHTS}
    first = tuple(part[None] for part in state)
    first = first if layer.name == "lstm" else first[0]
    y, last = torch.func.functional_call(theirs, own, (x, first))
    last = last if layer.name == "lstm" else (last,)
    return y, tuple(part[0] for part in last)


def outputs_and_gradients(compute, layer, x, state, through=("y", "state")):
    """Outputs, and the gradients of a random function of them with respect to everything."""
    y, last = compute(layer, x, state)
    torch.manual_seed(2)
    function = (y * torch.randn_like(y)).sum() if "y" in through else 0.0
    if "state" in through:
        function = function + sum((part * torch.randn_like(part)).sum() for part in last)
    everything = [x, *state, *layer.parameters()]
    gradients = torch.autograd.grad(function, everything, materialize_grads=True)
    return [y.detach(), *(part.detach() for part in last)], list(gradients)


def assert_same_as(reference, case):
    ours = outputs_and_gradients(lambda layer, x, state: layer(x, state), *case)
    expected = outputs_and_gradients(reference, *case)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("cell", KINDS, ids="-".join)
def test_outputs_and_all_gradients_are_those_of_the_steps(cell, sizes):
    assert_same_as(by_steps, make(cell, sizes))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_outputs_and_all_gradients_are_those_of_torch(cell, sizes):
    assert_same_as(by_torch, make((cell, "after"), sizes))


@pytest.mark.parametrize("cell", KINDS, ids="-".join)
def test_a_layer_of_one_bias_is_that_of_two_whose_second_is_zero(cell):
    case = make(cell, SIZES[-1], biases=1)
    assert [name for name, _ in case[0].named_parameters()] == ["weight_ih", "weight_hh", "bias_ih"]
    assert_same_as(by_steps, case)
    if cell != ("gru", "before"):
        assert_same_as(by_torch, case)


@pytest.mark.parametrize("cell", KINDS, ids="-".join)
def test_the_bias_that_is_not_there_stays_zero_and_is_not_saved(cell):
    layer, x, state = make(cell, SIZES[-1], biases=1)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(x, state)[0].sum().backward()
    optimiser.step()
    assert not layer.bias_hh.any() and layer.bias_ih.grad.any()
    assert "bias_hh" not in layer.state_dict()


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_what_a_gpu_takes_from_torch_is_the_same_function(cell):
    case = make((cell, "after"), SIZES[-1])

    def by_cudnns_call(layer, x, state):
        y, *last = CELLS[cell].on_gpu(x, *state, *layer.parameters())
        return y, tuple(last)

    assert_same_as(by_cudnns_call, case)


@pytest.mark.parametrize("biases", [1, 2])
@pytest.mark.parametrize("cell", KINDS, ids="-".join)
def test_weights_moved_to_a_gpu_are_cudnns_in_one_chunk(cell, biases, monkeypatch):
    """Here without a GPU: what cuDNN would be asked, where the kernel is its own."""
    layer, calls = make(cell, SIZES[-1], biases=biases)[0], []
    before = {name: id(weights) for name, weights in layer.named_parameters()}
    layer.to(torch.float32)  # on the CPU: nothing is asked
    assert {name: id(weights) for name, weights in layer.named_parameters()} == before
    monkeypatch.setattr(kernels, "get_cudnn_mode", lambda name: name)
    monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", lambda *a: calls.append(a))
    monkeypatch.setattr(torch.backends.cudnn, "is_acceptable", lambda weights: True)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    layer.to(torch.float64)
    if cell == ("gru", "before"):  # a loop of our own, on a GPU too
        assert calls == []
        return
    ((weights, count, inputs, mode, hidden, *rest),) = calls
    expected = [getattr(layer, name) for name in WEIGHTS]
    assert all(ours is theirs for ours, theirs in zip(weights, expected, strict=True))
    assert (count, inputs, hidden, rest) == (4, 1, 9, [0, 1, False, False])
    assert mode == {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN_TANH"}[cell[0]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_cudnn_finds_a_layers_weights_in_one_chunk(cell, recwarn):
    layer = Recurrent(cell, 5, 7)
    before = {name: id(weights) for name, weights in layer.named_parameters()}
    layer.cuda()
    layer(torch.zeros(3, 4, 5, device="cuda"), layer.initial_state(4))
    assert [str(w.message) for w in recwarn if "contiguous" in str(w.message)] == []
    assert {name: id(weights) for name, weights in layer.named_parameters()} == before
    assert len({weights.untyped_storage().data_ptr() for weights in layer.parameters()}) == 1


@pytest.mark.parametrize("cell", KINDS[1:], ids="-".join)  # the LSTM is torch's
def test_products_take_matrices_without_gaps(cell, monkeypatch):
    """With gaps between its rows a matrix took oneDNN a hundred times as long on an AVX2 CPU."""

    calls, mine = [], kernels.product

    def product(a, b, *more, **named):
        calls.append([m.is_contiguous() or m.T.is_contiguous() for m in (a, b)])
        return mine(a, b, *more, **named)

    def add_recurrent_product_(total, a, b):
        return total.add_(product(a, b))

    monkeypatch.setattr(kernels, "product", product)
    monkeypatch.setattr(kernels, "add_recurrent_product_", add_recurrent_product_)
    layer, x, state = make(cell, (5, 3, 4, 2))
    layer(x, state)[0].sum().backward()
    assert calls and all(map(all, calls))


@pytest.mark.parametrize("through", ["y", "state"])
@pytest.mark.parametrize("cell", KINDS, ids="-".join)
def test_gradients_through_outputs_or_last_state_alone(cell, through):
    case = make(cell, (4, 2, 3, 5))
    ours = outputs_and_gradients(lambda layer, x, state: layer(x, state), *case, (through,))
    expected = outputs_and_gradients(by_steps, *case, (through,))
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cell", KINDS, ids="-".join)
def test_gradients_are_those_of_finite_differences(cell):
    layer, x, state = make(cell, (3, 2, 2, 3))
    assert torch.autograd.gradcheck(find_cell(*cell).fast, (x, *state, *layer.parameters()))


@pytest.mark.parametrize("cell", KINDS, ids="-".join)
def test_single_precision_is_close_to_double(cell):
    layer, x, state = make(cell, (12, 5, 20, 20), torch.float32, scale=0.3)
    single = outputs_and_gradients(lambda layer, x, state: layer(x, state), layer, x, state)
    doubled = layer.double(), x.detach().double().requires_grad_(), tuple(s.double() for s in state)
    y, last = by_steps(*doubled)
    torch.manual_seed(2)
    function = (y * torch.randn_like(y, dtype=torch.float32)).sum()
    function = function + sum((s * torch.randn_like(s, dtype=torch.float32)).sum() for s in last)
    everything = [doubled[1], *doubled[2], *layer.parameters()]
    double = [y.detach(), *last], list(torch.autograd.grad(function, everything))
    torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-4, check_dtype=False)


@pytest.mark.parametrize("cell", KINDS, ids="-".join)
def test_two_windows_with_the_state_carried_are_one(cell):
    layer, x, state = make(cell, (9, 2, 3, 4))
    whole, last = layer(x, state)
    first, between = layer(x[:4], state)
    second, end = layer(x[4:], between)
    torch.testing.assert_close(torch.cat((first, second)), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(end, last, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", KINDS, ids="-".join)
def test_input_with_another_memory_layout_gives_the_same(cell):
    layer, x, state = make(cell, (4, 3, 5, 2), torch.float32)
    turned = x.detach().transpose(0, 1).contiguous().transpose(0, 1)
    assert not turned.is_contiguous()
    torch.testing.assert_close(layer(turned, state), layer(x, state))


@pytest.mark.parametrize("cell", KINDS, ids="-".join)
def test_both_biases_have_gradients_of_their_own(cell):
    layer, x, state = make(cell, (3, 2, 2, 2), torch.float32)
    layer(x, state)[0].sum().backward()
    expected = layer.bias_hh.grad.clone()
    layer.bias_ih.grad.mul_(0)  # as clipping does, in place
    assert expected.abs().max() > 0
    assert torch.equal(layer.bias_hh.grad, expected)


# ---------------------------------------------------------------- dropout
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_at_the_rate_and_keeps_the_mean(p):
    torch.manual_seed(1)
    y = drop(torch.ones(41, 7, 101), p)  # no multiple of the four entries of a draw
    assert (y == 0).double().mean().item() == pytest.approx(p, abs=0.01)
    assert y[y != 0].tolist() == pytest.approx([1 / (1 - p)] * int((y != 0).sum()), rel=1e-4)


def test_dropped_entries_are_independent_of_their_neighbours():
    torch.manual_seed(1)
    dropped = (drop(torch.ones(40_000), 0.5) == 0).double()
    for distance in (1, 2, 3, 4, 8):
        both = (dropped[distance:] * dropped[:-distance]).mean().item()
        assert both == pytest.approx(0.25, abs=0.015)


def test_dropout_is_reproducible_and_new_each_time():
    torch.manual_seed(1)
    one, other = drop(torch.ones(50), 0.5), drop(torch.ones(50), 0.5)
    torch.manual_seed(1)
    assert torch.equal(drop(torch.ones(50), 0.5), one)
    assert not torch.equal(one, other)


def test_dropout_has_its_mask_for_a_gradient():
    torch.manual_seed(1)
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    y = drop(x, 0.4)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, y.detach() / x.detach())


@pytest.mark.parametrize("p", [1e-7, 0.9999999])
def test_rates_that_round_to_none_or_all_stay_finite(p):
    assert drop(torch.ones(64), p).isfinite().all()


@pytest.mark.parametrize(("cell", "parts"), [("lstm", 2), ("gru", 1), ("rnn", 1)])
def test_initial_state_is_zero(cell, parts):
    state = Recurrent(cell, 3, 4).initial_state(5)
    assert [part.tolist() for part in state] == [[[0.0] * 4] * 5] * parts


@pytest.mark.parametrize(
    ("x", "state", "said"),
    [
        (torch.zeros(4, 3, 6), (torch.zeros(3, 7),), "x is (4, 3, 6)"),
        (torch.zeros(4, 5), (torch.zeros(3, 7),), "x is (4, 5)"),
        (torch.zeros(0, 3, 5), (torch.zeros(3, 7),), "x is (0, 3, 5)"),
        (torch.zeros(4, 3, 5).double(), (torch.zeros(3, 7),), "not (T, B, 5) torch.float32"),
        (torch.zeros(4, 3, 5), (torch.zeros(2, 7),), "the state is [((2, 7)"),
        (torch.zeros(4, 3, 5), (torch.zeros(3, 7),) * 2, "the state is [((3, 7)"),
        (torch.zeros(4, 3, 5), (torch.zeros(3, 7).double(),), "the state is"),
    ],
)
def test_wrong_shapes_and_dtypes_are_refused(x, state, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        Recurrent("gru", 5, 7)(x, state)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_linear_and_its_gradients_are_those_of_torch(dtype, tolerance):
    torch.manual_seed(1)
    ours, theirs = Linear(6, 4, dtype=dtype), torch.nn.Linear(6, 4, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 3, 6, dtype=dtype).transpose(0, 1).requires_grad_()  # not contiguous
    found = []
    for layer in (ours, theirs):
        y = layer(x)
        found.append((y, *torch.autograd.grad(y.square().sum(), (x, *layer.parameters()))))
    torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)
