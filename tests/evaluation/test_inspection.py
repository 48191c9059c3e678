"""What is shown of a model is what the model computes."""

import math

import pytest
import torch
import torch.nn.functional as F

from ptb.evaluation import inspection
from ptb.models.language_model import build

WORDS = 7
TRANSFORMER = {"heads": 2, "feedforward": 8, "init": 0.1}


@pytest.fixture
def make_model(tiny_setting):
    """A model of two layers with weights large enough for its gates to open and close."""

    def make(cell, **chosen):
        torch.manual_seed(1)
        return build(tiny_setting(cell=cell, layers=2, **chosen), WORDS).eval()

    return make


@pytest.mark.parametrize(
    ("cell", "reset"), [("lstm", "after"), ("gru", "after"), ("gru", "before"), ("rnn", "after")]
)
def test_the_state_that_the_gates_make_is_the_layers_output(cell, reset, make_model):
    model = make_model(cell, reset=reset)
    layer, x = model.layers[0], torch.randn(9, 3, 6)
    state = tuple(torch.randn(3, 6) for _ in layer.cell.states)
    y, after = layer(x, state)
    found = inspection.gate_values(layer, x, state)
    torch.testing.assert_close(found["h"], y, atol=1e-6, rtol=0)
    for name, expected in zip(layer.cell.states, after, strict=True):
        torch.testing.assert_close(found[name][-1], expected, atol=1e-6, rtol=0)


def test_each_gate_does_what_its_name_says(make_model):
    x, h = torch.randn(9, 3, 6), torch.randn(3, 6)
    layer = make_model("lstm").layers[0]
    found = inspection.gate_values(layer, x, (h, h))
    before = torch.cat((h[None], found["c"][:-1]))
    torch.testing.assert_close(found["c"], found["f"] * before + found["i"] * found["g"])
    torch.testing.assert_close(found["h"], found["o"] * found["c"].tanh())
    assert found["i"].min() > 0 > found["g"].min()
    found = inspection.gate_values(make_model("gru").layers[0], x, (h,))
    before = torch.cat((h[None], found["h"][:-1]))
    torch.testing.assert_close(found["h"], found["z"] * before + (1 - found["z"]) * found["n"])
    assert 0 < found["r"].min() < found["r"].max() < 1


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_read_text_has_the_states_of_the_model(cell, make_model):
    model, ids = make_model(cell), torch.randint(WORDS, (8, 2))
    found = inspection.read_gates(model, ids)
    y, states = model(ids, model.initial_state(2))
    torch.testing.assert_close(found[-1]["h"], y, atol=1e-6, rtol=0)
    for layer, state in zip(found, states, strict=True):
        torch.testing.assert_close(layer["h"][-1], state[0], atol=1e-6, rtol=0)


def test_features_count_from_and_to_the_ends_of_sentences():
    index = {"<eos>": 0, "said": 1, "N": 2, "it": 3}
    ids = torch.tensor([[3, 0, 3, 1, 2, 0, 3]]).T
    nan = math.nan
    expected = {
        "the end of a sentence": [0, 1, 0, 0, 0, 1, 0],
        "words since the sentence began": [nan, 0, 1, 2, 3, 0, 1],
        "words until the sentence ends": [1, 0, 3, 2, 1, 0, nan],
        "after “said” in its sentence": [nan, 0, 0, 1, 1, 0, 0],
        "a number": [0, 0, 0, 0, 1, 0, 0],
    }
    found = inspection.features(ids, index)
    assert list(found) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name][:, 0], torch.tensor(values).float(), equal_nan=True)
    assert len(inspection.features(ids, {"<eos>": 0})) == 3


def test_correlations_are_pearsons_of_what_is_known():
    units, feature = torch.randn(50, 3), torch.randn(50)
    units[:, 1], units[:, 2] = -2 * feature + 1, 5.0
    unknown = torch.full((4,), math.nan)
    found = inspection.correlations(
        torch.cat((units, torch.randn(4, 3))), torch.cat((feature, unknown))
    )
    expected = torch.corrcoef(torch.stack((units[:, 0], feature)))[0, 1]
    torch.testing.assert_close(found, torch.tensor([expected, -1.0, 0.0]))


def test_the_unit_that_follows_is_found_and_measured_on_other_texts():
    torch.manual_seed(2)
    feature = torch.randn(20, 6)
    layers = [{"h": torch.randn(20, 6, 4), "c": torch.randn(20, 6, 4)} for _ in range(2)]
    layers[1]["c"][:, :, 3] = -feature
    layers[1]["c"][:, 3:, 3] = feature[:, 3:]  # the second half of the texts turns it round
    layers[0]["h"][:, 3:, 0] = feature[:, 3:]  # good where it is not chosen
    (found,) = inspection.followers(layers, {"what": feature})
    assert found[:4] == ("what", 2, "c", 3)
    assert found[4:] == pytest.approx((-1, 1))


@pytest.mark.parametrize("cell", ["lstm", "gru", "transformer"])
def test_a_words_gradient_is_the_slope_of_the_last_words_loss(cell, make_model):
    chosen = TRANSFORMER if cell == "transformer" else {}
    model, ids = make_model(cell, **chosen).double(), torch.tensor([0, 1, 3, 4])
    found = inspection.word_gradients(model, ids)
    assert found.shape == (3,)

    def loss(place, entry, shift):
        def moved(layer, args, output):
            output = output.clone()
            output[place, 0, entry] += shift
            return output

        with model.embedding.register_forward_hook(moved):
            logits = model.logits(ids[:-1, None], model.initial_state(1))[0]
        return F.cross_entropy(logits[-1], ids[-1:]).item()

    for place in range(3):
        slopes = [(loss(place, n, 1e-5) - loss(place, n, -1e-5)) / 2e-5 for n in range(6)]
        assert found[place].item() == pytest.approx(math.hypot(*slopes), rel=1e-5)


def test_the_next_words_distribution_sharpens_and_is_cut(make_model):
    model, ids = make_model("gru"), torch.tensor([0, 1, 3])
    logits = model.logits(ids[:, None], model.initial_state(1))[0][-1, 0]
    torch.testing.assert_close(inspection.next_word(model, ids), logits.softmax(0))
    expected = (logits / 0.5).softmax(0)
    torch.testing.assert_close(inspection.next_word(model, ids, 0.5), expected)
    cut = inspection.next_word(model, ids, 0.5, top_k=3)
    kept = expected.topk(3)
    torch.testing.assert_close(cut[kept.indices], kept.values / kept.values.sum())
    assert (cut > 0).sum() == 3
    assert (
        inspection.next_word(model, ids, 0).tolist() == F.one_hot(logits.argmax(), WORDS).tolist()
    )


def test_of_equally_likely_next_words_the_top_k_are_no_more_than_k(make_model):
    model, ids = make_model("gru"), torch.tensor([0, 1, 3])
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()
    assert sorted(inspection.next_word(model, ids, top_k=2).tolist())[-3:] == [0, 0.5, 0.5]


def test_a_transformers_next_word_depends_on_its_window_alone(make_model):
    model = make_model("transformer", **TRANSFORMER)
    ids = torch.arange(3 * model.window) % WORDS
    last = ids[-model.window :]
    torch.testing.assert_close(inspection.next_word(model, ids), inspection.next_word(model, last))


def test_attention_weights_times_values_are_the_modules_output(make_model):
    model, ids = make_model("transformer", **TRANSFORMER), torch.tensor([0, 1, 3, 4, 2])
    attention, x = model.layers[0].attention, torch.randn(5, 3, 6)
    weights = inspection.attention_weights(attention, x)
    values = attention.value(x).unflatten(2, (2, 3)).permute(1, 2, 0, 3)
    y = attention.output((weights @ values).permute(2, 0, 1, 3).flatten(2))
    torch.testing.assert_close(y, attention(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 5))
    assert weights.triu(1).eq(0).all()
    found = inspection.read_attention(model, ids)
    assert [layer.shape for layer in found] == [(2, 5, 5)] * 2
    scores = inspection.read_attention(model, ids, inspection.attention_scores)
    torch.testing.assert_close(scores[1][0, 4].softmax(0), found[1][0, 4])
    assert not any(layer.attention._forward_pre_hooks for layer in model.layers)
