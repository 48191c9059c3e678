"""The Transformer and its model: torch's modules with the same weights; causality; windows."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import make_corpus
from torch import nn

import ptb_utils as pu
from ptb.evaluation import perplexity as evaluation
from ptb.evaluation.analysis import surprise
from ptb.evaluation.generation import generate
from ptb.evaluation.perplexity import sliding_losses, summary, token_losses
from ptb.models import transformer
from ptb.models.language_model import build
from ptb.models.transformer import (
    DecoderLayer,
    FeedForward,
    MultiHeadAttention,
    attention,
    causal_attention,
    causal_mask,
    masked_softmax,
    masked_softmax_by_product,
    positions,
)
from ptb.report.model_table import parameter_table
from ptb.runs.run import Run, load_model
from ptb.runs.table import faults
from ptb.setting import Setting
from ptb.training.train import train

VOCABULARY = 7
SIZES = [(1, 1, 1, 1), (5, 2, 4, 6), (9, 3, 2, 4)]  # T, B, h, d


def small(**chosen) -> Setting:
    sizes = {"embedding": 8, "hidden": 8, "heads": 2, "feedforward": 12, "bptt": 5}
    return Setting("transformer", corpus="tiny", **sizes | {"attention_dropout": 0.0} | chosen)


def make(dtype=torch.float64, **chosen):
    torch.manual_seed(1)
    return build(small(**chosen), VOCABULARY).to(dtype)


def random_ids(count: int) -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randint(VOCABULARY, (count,), dtype=torch.int32)


def heads(sizes, count=3):
    torch.manual_seed(1)
    steps, batch, number, size = sizes
    return torch.randn(count, batch, number, steps, size, dtype=torch.float64).unbind()


# ---------------------------------------------------------------- masked softmax
SOFTMAXES = [masked_softmax, masked_softmax_by_product]


def softmax_of_the_past(scores):
    """Row by row over the keys up to the query alone: no mask at all."""
    found = torch.zeros_like(scores)
    for t in range(len(scores)):
        found[t, : t + 1] = scores[t, : t + 1].softmax(0)
    return found


@pytest.mark.parametrize("shift", [0.0, 1e3, -1e3, -1e5])
@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_masked_softmax_is_that_of_the_past_alone(softmax, shift):
    torch.manual_seed(1)
    scores = 30 * torch.randn(6, 6, dtype=torch.float64) + shift
    found = softmax(scores, causal_mask(6))
    torch.testing.assert_close(found, softmax_of_the_past(scores), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("softmax", SOFTMAXES)
@pytest.mark.parametrize("forbidden", [1e4, -1e4])
def test_what_the_mask_forbids_has_no_weight_however_large_it_is(softmax, forbidden):
    scores = torch.where(causal_mask(4), 0.0, forbidden)
    expected = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    torch.testing.assert_close(softmax(scores, causal_mask(4)), expected)


def test_both_forms_have_the_same_gradients():
    scores = torch.randn(3, 5, 5, dtype=torch.float64, requires_grad=True)
    for softmax in SOFTMAXES:
        assert torch.autograd.gradcheck(lambda s, f=softmax: f(s, causal_mask(5)), scores)


# ---------------------------------------------------------------- attention
@pytest.mark.parametrize("sizes", SIZES)
def test_attention_is_that_of_torch(sizes):
    q, k, v = heads(sizes)
    mask = causal_mask(len(q[0, 0]))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    for found in (attention(q, k, v, mask), causal_attention(q, k, v)):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_attention_with_another_mask_is_that_of_torch():
    q, k, v = heads((6, 1, 2, 3))
    mask = torch.eye(6, dtype=torch.bool) | torch.rand(6, 6).gt(0.5)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(attention(q, k, v, mask), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("fast", [False, True])
def test_gradients_of_attention(fast):
    q, k, v = (part.requires_grad_() for part in heads((4, 1, 2, 3)))
    function = causal_attention if fast else lambda q, k, v: attention(q, k, v, causal_mask(4))
    assert torch.autograd.gradcheck(function, (q, k, v))


@pytest.mark.parametrize("fast", [False, True])
def test_attention_drops_weights_and_scales_the_others(fast):
    """With the identity as values, what comes out are the weights."""
    q, k, _ = heads((40, 2, 2, 3))
    v = torch.eye(40, dtype=torch.float64).expand(2, 2, 40, 40)
    torch.manual_seed(1)
    dropped = causal_attention(q, k, v, 0.25) if fast else attention(q, k, v, causal_mask(40), 0.25)
    weights = attention(q, k, v, causal_mask(40))
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.75, rtol=1e-9, atol=0)
    rate = 1 - kept[weights > 0].double().mean().item()
    assert rate == pytest.approx(0.25, abs=0.03)


def torchs_attention(ours: MultiHeadAttention, hidden: int) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(hidden, ours.heads, dtype=torch.float64)
    copy_attention(ours, theirs)
    return theirs


@torch.no_grad()
def copy_attention(ours, theirs):
    parts = ours.query, ours.key, ours.value
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


@pytest.mark.parametrize(("hidden", "number"), [(6, 1), (6, 2), (12, 4)])
def test_multi_head_attention_is_that_of_torch(hidden, number):
    torch.manual_seed(1)
    ours = MultiHeadAttention(hidden, number, 0.0).double()
    theirs = torchs_attention(ours, hidden)
    x = torch.randn(5, 3, hidden, dtype=torch.float64)
    expected, _ = theirs(x, x, x, attn_mask=~causal_mask(5), need_weights=False)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-12)
    ours(x).square().sum().backward()
    expected.square().sum().backward()
    gradients = [part.weight.grad for part in (ours.query, ours.key, ours.value)]
    torch.testing.assert_close(torch.cat(gradients), theirs.in_proj_weight.grad)


def test_layers_are_the_same_with_attention_as_it_is_written(monkeypatch):
    model, x = make(), random_ids(10).view(5, 2)
    expected, _ = model(x, ())
    written = []

    def by_hand(q, k, v, p):
        written.append(p)
        return attention(q, k, v, causal_mask(q.shape[2]), p)

    monkeypatch.setattr(transformer, "causal_attention", by_hand)
    torch.testing.assert_close(model(x, ())[0], expected, rtol=0, atol=1e-12)
    assert written == [0.0, 0.0]


# ---------------------------------------------------------------- layers
@torch.no_grad()
def copy_layer(ours: DecoderLayer, theirs: nn.TransformerEncoderLayer):
    copy_attention(ours.attention, theirs.self_attn)
    pairs = (
        (theirs.norm1, ours.norm_1),
        (theirs.norm2, ours.norm_2),
        (theirs.linear1, ours.feedforward.widen),
        (theirs.linear2, ours.feedforward.narrow),
    )
    for copy, original in pairs:
        copy.load_state_dict(original.state_dict())


def torchs_layer(setting: Setting) -> nn.TransformerEncoderLayer:
    sizes = setting.hidden, setting.heads, setting.feedforward
    return nn.TransformerEncoderLayer(*sizes, 0.0, norm_first=True, dtype=torch.float64)


def test_layer_is_torchs_with_the_norm_first():
    torch.manual_seed(1)
    ours, theirs = DecoderLayer(8, 2, 12, 0.0, 0.0).double(), torchs_layer(small())
    for norm in (ours.norm_1, ours.norm_2):
        nn.init.normal_(norm.weight)
    copy_layer(ours, theirs)
    x = torch.randn(5, 3, 8, dtype=torch.float64, requires_grad=True)
    expected = theirs(x, src_mask=~causal_mask(5))
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (ours(x), expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_gradients_of_a_layer():
    torch.manual_seed(1)
    layer = DecoderLayer(4, 2, 6, 0.0, 0.0).double()
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


def test_feedforward_is_dropped_behind_the_relu():
    torch.manual_seed(1)
    layer = FeedForward(50, 50, 0.25)
    for weights in layer.parameters():
        nn.init.zeros_(weights)
    nn.init.eye_(layer.narrow.weight)
    nn.init.ones_(layer.widen.bias)  # so that y is relu(1), dropped
    y = layer(torch.randn(10, 4, 50)).detach()
    assert (y == 0).double().mean().item() == pytest.approx(0.25, abs=0.04)
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / 0.75))
    assert torch.equal(layer.eval()(y), torch.ones_like(y))


@pytest.mark.parametrize("part", ["attention", "feedforward"])
def test_what_a_part_adds_is_dropped_and_what_it_adds_to_is_not(part):
    torch.manual_seed(1)
    layer = DecoderLayer(40, 2, 6, 0.25, 0.0).double()
    ends = {"attention": layer.attention.output, "feedforward": layer.feedforward.narrow}
    for end in ends.values():
        nn.init.zeros_(end.weight)
        nn.init.zeros_(end.bias)
    nn.init.ones_(ends[part].bias)
    x = torch.randn(9, 4, 40, dtype=torch.float64)
    added = layer(x).detach() - x
    assert (added.abs() < 1e-12).double().mean().item() == pytest.approx(0.25, abs=0.04)
    kept = added[added.abs() > 1e-12]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.75), rtol=1e-4, atol=0)


def test_positions_are_the_papers():
    found = positions(9, 5, torch.float64)
    for t in range(9):
        for i in range(5):
            angle = t / 10_000 ** (2 * (i // 2) / 5)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert found[t, i].item() == pytest.approx(expected, abs=1e-12)


# ---------------------------------------------------------------- the model
COUNTS = [  # the second exercise's settings 3.4a to 3.4d: hidden, layers, parameters
    (512, 6, 29_165_328),
    (512, 2, 16_555_792),
    (2048, 2, 91_346_704),
    (1024, 6, 70_891_280),
]


@pytest.mark.parametrize(("hidden", "layers", "count"), COUNTS)
def test_parameters_of_the_exercises_settings(hidden, layers, count):
    setting = Setting("transformer", embedding=hidden, hidden=hidden, layers=layers)
    with torch.device("meta"):
        model = build(setting, 10_000)
    assert sum(p.numel() for p in model.parameters()) == count
    rows = parameter_table(model, setting)
    assert [row["held"] for row in rows] == [row["expected"] for row in rows]
    assert sum(row["held"] for row in rows) == count


class Torchs(nn.Module):
    """The same model of nn.TransformerEncoder, weights copied."""

    def __init__(self, setting: Setting, model):
        super().__init__()
        self.embedding, self.output = model.embedding, model.output
        norm = nn.LayerNorm(setting.hidden, dtype=torch.float64)
        layer, number = torchs_layer(setting), setting.layers
        self.stack = nn.TransformerEncoder(layer, number, norm, enable_nested_tensor=False)
        for ours, theirs in zip(model.layers, self.stack.layers, strict=True):
            copy_layer(ours, theirs)

    def forward(self, x, y):
        steps, hidden = len(x), self.embedding.embedding_dim
        read = self.embedding(x) * hidden**0.5
        read = read + positions(steps, hidden, torch.float64)[:, None]
        scores = self.output(self.stack(read, mask=~causal_mask(steps)))
        return F.cross_entropy(scores.flatten(0, 1), y.flatten())


def test_loss_and_gradients_are_those_of_torchs_modules():
    model = make()
    x, y = random_ids(30).long().view(2, 5, 3)
    theirs, (ours, state) = Torchs(small(), model), model.loss(x, y, model.initial_state(3))
    shared = [model.embedding.weight, model.output.weight, model.output.bias]
    expected = theirs(x, y)
    assert ours.item() == pytest.approx(expected.item(), abs=1e-12)
    assert state == ()
    gradients = [torch.autograd.grad(loss, shared) for loss in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)


def test_token_losses_and_logits_agree_with_the_loss():
    model = make().eval()
    x, y = random_ids(30).long().view(2, 5, 3)
    losses, _ = model.token_losses(x, y, ())
    logits, _ = model.logits(x, ())
    by_logits = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view_as(y)
    torch.testing.assert_close(losses, by_logits)
    torch.testing.assert_close(losses.mean(), model.loss(x, y, ())[0])
    torch.testing.assert_close(model.token_losses(x, y[-2:], ())[0], losses[-2:])


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_later_word_changes_no_earlier_output(place):
    model, x = make(torch.float32).eval(), random_ids(10).long().view(5, 2)
    other = x.clone()
    other[place] = (x[place] + 1) % VOCABULARY
    (before, _), (after, _) = model.logits(x, ()), model.logits(other, ())
    assert torch.equal(before[:place], after[:place])
    assert (before[place:] != after[place:]).flatten(1).any(1).all()  # but its own and all later


def test_matrices_are_drawn_from_xaviers_range():
    torch.manual_seed(1)
    model = build(small(embedding=40, hidden=40, feedforward=100), 200)
    for name, weights in model.named_parameters():
        if weights.dim() == 2:
            limit = math.sqrt(6 / sum(weights.shape))
            assert 0.9 * limit < weights.abs().max() <= limit, name
            assert weights.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.1), name


@pytest.mark.parametrize("chosen", [{"dropout": 0.5}, {"attention_dropout": 0.5}])
def test_dropout_is_on_in_training_and_off_in_evaluation(chosen):
    model, plain, x = make(**chosen), make(), random_ids(10).view(5, 2)
    assert not torch.equal(model(x, ())[0], model(x, ())[0])
    torch.testing.assert_close(model.eval()(x, ())[0], plain(x, ())[0])


def test_embedding_and_positions_are_dropped():
    model, x = make(dropout=0.5, hidden=40, embedding=40), random_ids(60).view(30, 2)
    model.layers, model.norm = nn.ModuleList(), nn.Identity()
    assert (model(x, ())[0] == 0).double().mean().item() == pytest.approx(0.5, abs=0.05)


# ---------------------------------------------------------------- evaluation and generated text
@torch.no_grad()
def one_by_one(model, ids, begin) -> torch.Tensor:
    """Each target's loss by itself, given the words from begin(its place) on."""
    ids, losses = ids.tolist(), []
    for place in range(1, len(ids)):
        logits, _ = model.logits(torch.tensor(ids[begin(place) : place])[:, None], ())
        losses.append(-logits[-1, 0].log_softmax(0)[ids[place]])
    return torch.stack(losses)


COUNTED = [2, 5, 6, 7, 8, 12, 57, 61, 112]


@pytest.mark.parametrize("count", COUNTED)
def test_windows_do_not_overlap_and_score_every_token_but_the_first(count):
    model, ids = make().eval(), random_ids(count)
    length = math.ceil((count - 1) / 10)  # of a row

    def begin(place):
        start = (place - 1) // length * length  # of the target's row
        return start + (place - 1 - start) // 5 * 5  # of its window

    losses = token_losses(model, ids)
    torch.testing.assert_close(losses, one_by_one(model, ids, begin), rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", COUNTED)
def test_sliding_evaluation_gives_every_token_the_window_before_it(count, monkeypatch):
    monkeypatch.setattr(evaluation, "SLIDING", 7)  # several parts
    model, ids = make().eval(), random_ids(count)
    losses = sliding_losses(model, ids)
    expected = one_by_one(model, ids, lambda place: max(0, place - 5))
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-12)


def test_surprise_gives_each_word_its_context(tiny_corpus):
    model, ids = make().eval(), [1, 3, 4, 0, 2, 3, 5, 0]
    text = torch.tensor([0, *ids])
    expected = one_by_one(model, text, lambda place: max(0, place - 5)) / math.log(2)
    assert surprise(model, tiny_corpus, ids) == pytest.approx(expected.tolist())


@pytest.mark.parametrize("prompt", [[3], [0, 5, 2, 1, 4, 6, 6]])
def test_greedy_text_goes_on_beyond_the_window(prompt):
    model, ids = make().eval(), list(prompt)
    for _ in range(12):
        scores = model.logits(torch.tensor(ids[-5:])[:, None], ())[0][-1, 0].tolist()
        ids.append(scores.index(max(scores)))
    assert generate(model, torch.tensor(prompt), 12, temperature=0) == ids[len(prompt) :]


# ---------------------------------------------------------------- training
@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    chosen = {"optimiser": "adamw", "lr": 0.02, "epochs": 6, "batch_size": 4, "bptt": 9}
    folder = tmp_path_factory.mktemp("transformer")
    train(small(**chosen), make_corpus(), folder)
    return Run(folder)


def test_training_learns_and_records_both_evaluations(trained, tiny_corpus):
    metrics, model = trained.metrics, load_model(trained, tiny_corpus)
    assert metrics["valid"]["perplexity"] < 2.2
    for split in ("valid", "test"):
        losses = sliding_losses(model, tiny_corpus[split])
        assert metrics["sliding"][split] == summary(losses)
        assert metrics["sliding"][split]["tokens"] == metrics[split]["tokens"]
        assert metrics["sliding"][split]["loss"] != metrics[split]["loss"]
    assert set(metrics["sliding"]) == {"valid", "test"} and faults(trained) is None


def test_result_and_evaluation_show_both(trained, tiny_corpus):
    metrics, shown = trained.metrics, pu.result(trained)
    sliding = [f"{metrics['sliding'][split]['perplexity']:.2f}" for split in ("valid", "test")]
    assert list(shown.frame["sliding"]) == ["–", *sliding]
    assert shown.frame["perplexity"][1] == f"{metrics['valid']['perplexity']:.2f}"
    assert "of each word given the 9 before it" in shown.caption
    measured = pu.remeasure(trained, load_model(trained, tiny_corpus), tiny_corpus).frame
    assert list(measured["split"])[3:] == ["valid, sliding", "test, sliding"]
    assert list(measured["equal"]) == ["yes"] * 5


def test_the_sliding_evaluation_is_announced(tiny_corpus, tmp_path):
    said = []
    train(small(epochs=1), tiny_corpus, tmp_path, on_measure=said.append)
    assert said == ["test", "valid", "train", "sliding", "texts"]


def test_recurrent_runs_record_no_sliding_evaluation(tiny_corpus, tiny_setting, tmp_path):
    assert "sliding" not in train(tiny_setting(epochs=1), tiny_corpus, tmp_path)
