"""Output layer and cross-entropy in one are torch's two, values and gradients."""

import re

import pytest
import torch
import torch.nn.functional as F

from ptb.models import cross_entropy as loss
from ptb.models.cross_entropy import augmented_loss, cross_entropy, token_cross_entropies

SIZES = [(1, 1, 2), (3, 2, 5), (4, 3, 7), (5, 6, 3), (8, 1, 9), (13, 4, 11)]  # N, H, V


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of four rows: the sizes above lie on both sides of their boundaries."""
    monkeypatch.setattr(loss, "CHUNK", 4)
    monkeypatch.setattr(loss, "CACHED_ROWS", 4)


def make(sizes, dtype=torch.float64):
    rows, hidden, vocabulary = sizes
    torch.manual_seed(1)
    shapes = (rows, hidden), (vocabulary, hidden), (vocabulary,)
    tensors = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    return *tensors, torch.randint(vocabulary, (rows,))


def torchs(hidden, weight, bias, targets):
    return F.cross_entropy(F.linear(hidden, weight, bias), targets)


def value_and_gradients(compute, *case):
    value = compute(*case)
    return value.detach(), torch.autograd.grad(3 * value, case[:3])


@pytest.mark.parametrize("sizes", SIZES)
def test_fused_loss_and_gradients_are_those_of_torch(sizes, small_chunks):
    case = make(sizes)
    ours, expected = (value_and_gradients(f, *case) for f in (cross_entropy, torchs))
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


def test_fused_loss_over_chunks_as_they_are():
    case = make((2 * loss.CHUNK + 3, 2, 5))
    ours, expected = (value_and_gradients(f, *case) for f in (cross_entropy, torchs))
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sizes", [(1, 3, 5), (50, 20, 300)])
def test_single_precision_is_close_to_torchs(sizes, small_chunks):
    case = make(sizes, torch.float32)
    ours, expected = (value_and_gradients(f, *case) for f in (cross_entropy, torchs))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_finite_differences(small_chunks):
    case, step = make((5, 3, 4)), 1e-6
    _, gradients = value_and_gradients(cross_entropy, *case)
    for tensor, gradient in zip(case[:3], gradients, strict=True):
        entries, expected = tensor.detach().view(-1), gradient.flatten() / 3
        for n in range(len(entries)):
            entries[n] += step
            above = cross_entropy(*case).item()
            entries[n] -= 2 * step
            slope = (above - cross_entropy(*case).item()) / (2 * step)
            entries[n] += step
            assert slope == pytest.approx(expected[n].item(), abs=1e-8)


def test_a_second_backward_pass_is_refused():
    loss = cross_entropy(*make((3, 2, 4)))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="compute cross_entropy again"):
        loss.backward()


def test_gradients_become_the_parameters_without_a_copy():
    hidden, _, bias, targets = make((3, 2, 4))
    weight = torch.randn(2, 4, dtype=torch.float64).T.requires_grad_()  # as the model stores it
    loss = cross_entropy(hidden, weight, bias, targets)
    held = loss.grad_fn.gradients[1].data_ptr()
    loss.backward()
    assert weight.grad.data_ptr() == held


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("largest", [1e3, -1e3])
def test_extreme_logits_stay_finite_and_equal_to_torchs(largest, dtype, small_chunks):
    hidden = torch.eye(6, 3, dtype=dtype).mul(largest).requires_grad_()
    weight = torch.eye(5, 3, dtype=dtype).sub(0.5).mul(2).requires_grad_()
    bias = torch.zeros(5, dtype=dtype, requires_grad=True)
    case = hidden, weight, bias, torch.tensor([0, 1, 4, 0, 3, 2])
    ours, expected = (value_and_gradients(f, *case) for f in (cross_entropy, torchs))
    assert ours[0].isfinite() and all(gradient.isfinite().all() for gradient in ours[1])
    assert ours[0] > 100
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("sizes", SIZES)
def test_token_losses_are_torchs_without_the_mean(sizes, small_chunks):
    hidden, weight, bias, targets = make(sizes)
    expected = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="none")
    with torch.no_grad():
        torch.testing.assert_close(
            token_cross_entropies(hidden, weight, bias, targets), expected, rtol=1e-10, atol=1e-10
        )


def test_mean_of_token_losses_is_the_fused_loss():
    case = make((400, 8, 50), torch.float32)
    with torch.no_grad():
        losses = token_cross_entropies(*case)
    assert losses.shape == (400,)
    torch.testing.assert_close(losses.mean(), cross_entropy(*case).detach())


@pytest.mark.parametrize(
    ("hidden", "targets", "said"),
    [
        (torch.zeros(4, 3), torch.zeros(5, dtype=torch.int64), "hidden is (4, 3)"),
        (torch.zeros(5, 2), torch.zeros(5, dtype=torch.int64), "not (5, 3) torch.float32"),
        (torch.zeros(5, 3).double(), torch.zeros(5, dtype=torch.int64), "torch.float64, not"),
        (torch.zeros(5, 3), torch.zeros(5), "targets are 1-d torch.float32"),
    ],
)
def test_wrong_shapes_and_dtypes_are_refused(hidden, targets, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        cross_entropy(hidden, torch.zeros(6, 3), torch.zeros(6), targets)


def test_a_bias_of_another_size_is_refused_though_torch_would_spread_it():
    hidden, weight, _, targets = make((5, 3, 6))
    with pytest.raises(ValueError, match=re.escape("bias is (1,), not (6,)")):
        cross_entropy(hidden, weight, torch.zeros(1), targets)


@pytest.mark.parametrize("sizes", SIZES)
def test_augmented_loss_is_the_divergence_at_a_high_temperature(sizes):
    hidden, weight, _, targets = make(sizes)
    heat, (at_h, at_target) = 1e4, ((rows @ weight.T) for rows in (hidden, weight[targets]))
    found, wanted = ((logits / heat).log_softmax(1) for logits in (at_h, at_target.detach()))
    divergence = F.kl_div(found, wanted, log_target=True, reduction="batchmean") * heat**2
    (gradient,) = torch.autograd.grad(divergence, hidden)
    value = augmented_loss(hidden, weight, targets)
    own, of_weight = torch.autograd.grad(value, (hidden, weight), allow_unused=True)
    assert value.item() == pytest.approx(divergence.item(), rel=1e-3, abs=1e-9)
    torch.testing.assert_close(own, gradient, rtol=1e-2, atol=1e-4)
    assert of_weight is None
