"""ptb.evaluation: every token but the first, once; what is derived from the losses adds up."""

import gc
import math
import random

import pytest
import torch

from ptb.data.corpus import Corpus
from ptb.errors import SettingError, WeightsError
from ptb.evaluation import perplexity as evaluation
from ptb.evaluation.analysis import analyse, neighbours, step_losses, surprise, unigram
from ptb.evaluation.generation import encode, generate, longest_shared, write_samples
from ptb.evaluation.perplexity import measure, perplexity, summary, token_losses
from ptb.models.language_model import build
from ptb.runs.run import Run, load_model
from ptb.setting import Setting

VOCABULARY = 7
SETTING = Setting(embedding=4, hidden=4, init=0.8, dropout=0.5, corpus="tiny")


@pytest.fixture
def model():
    torch.manual_seed(1)
    return build(SETTING, VOCABULARY).double()


def random_ids(count: int) -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randint(VOCABULARY, (count,))


@torch.no_grad()
def word_by_word(model, ids, rows):
    """The losses from each row's start, one word at a time, by log-softmax of the logits."""
    losses, ids = [], ids.tolist()
    length = math.ceil((len(ids) - 1) / rows)
    for place in range(len(ids) - 1):
        if place % length == 0:
            state = model.initial_state(1)
        logits, state = model.logits(torch.tensor([[ids[place]]]), state)
        losses.append(-logits[0, 0].log_softmax(0)[ids[place + 1]])
    return torch.stack(losses)


@pytest.mark.parametrize("count", [2, 10, 11, 12, 57, 61, 112])
def test_token_losses_are_those_of_a_plain_loop(model, count, monkeypatch):
    monkeypatch.setattr(evaluation, "WINDOW", 4)  # several windows a row
    ids = random_ids(count)
    losses = token_losses(model, ids)
    torch.testing.assert_close(losses, word_by_word(model.eval(), ids, 10), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 3])
def test_token_losses_in_other_numbers_of_rows(model, rows):
    ids = random_ids(25)
    losses = token_losses(model, ids, rows)
    torch.testing.assert_close(losses, word_by_word(model.eval(), ids, rows), rtol=0, atol=1e-12)


class Echo:
    """A model whose loss tells what it was asked: 1000 · input + target."""

    window = None

    def eval(self):
        return self

    def initial_state(self, batch_size):
        return None

    def token_losses(self, x, y, state):
        return (1000 * x + y).double(), state


@pytest.mark.parametrize("count", [2, 9, 10, 11, 12, 20, 21, 99, 111])
def test_every_token_but_the_first_is_a_target_once_in_order(count):
    ids = torch.arange(count)
    expected = [1000 * i + i + 1 for i in range(count - 1)]  # each from the token before it
    assert token_losses(Echo(), ids).tolist() == expected


def test_evaluation_turns_dropout_off_and_keeps_no_graph(model):
    model.train()
    losses = token_losses(model, random_ids(30))
    assert not losses.requires_grad
    assert torch.equal(losses, token_losses(model, random_ids(30)))


def test_a_measured_split_is_the_summary_of_its_losses(model):
    ids = random_ids(57)
    assert measure(model, ids) == pytest.approx(summary(token_losses(model, ids)))


class Counting(Echo):
    """An Echo that notes, at each window, how many tensors are alive."""

    def __init__(self):
        self.alive = []

    def token_losses(self, x, y, state):
        self.alive.append(sum(type(thing) is torch.Tensor for thing in gc.get_objects()))
        return super().token_losses(x, y, state)


@pytest.mark.parametrize("function", [measure, token_losses])
def test_no_tensor_is_kept_for_each_window(function, monkeypatch):
    """Small ones that are kept between large ones that come and go pin the whole heap.

    On Penn Treebank that took gigabytes. The process's memory would be the better measure, but is
    only so steady: it grows by a few megabytes as the heap settles.
    """
    monkeypatch.setattr(evaluation, "WINDOW", 4)
    counting = Counting()
    gc.collect()  # what other tests left must not go in between
    function(counting, torch.arange(10 * 4 * 20 + 1))
    assert len(counting.alive) == 20
    assert set(counting.alive[2:]) == {counting.alive[1]}  # the first window has none before it


def test_uniform_model_has_the_perplexity_of_its_vocabulary(model):
    for weights in model.parameters():
        torch.nn.init.zeros_(weights)
    assert perplexity(token_losses(model, random_ids(43))) == pytest.approx(VOCABULARY)


def test_perplexity_is_the_exponential_of_the_mean():
    assert perplexity(torch.tensor([1.0, 2.0, 6.0])) == pytest.approx(math.exp(3))
    assert perplexity(torch.tensor([900.0])) == math.inf


def test_summary_of_losses():
    found = summary(torch.tensor([1.0, 2.0, 6.0]))
    assert found == {"loss": 3.0, "perplexity": pytest.approx(math.exp(3)), "tokens": 3}


# ---------------------------------------------------------------- what is derived from the losses
@pytest.fixture
def hand_made() -> Corpus:
    """Words 1 to 3 are 12, 3 and 1 times in training; the test split has two sentences, a rest."""
    train = [1] * 12 + [2] * 3 + [3] + [0] * 2
    test = [1, 2, 0, 1, 1, 3, 0, 2]
    splits = {"train": train, "valid": [0], "test": test}
    return Corpus("hand", ("<eos>", "a", "b", "c"), {s: torch.tensor(i) for s, i in splits.items()})


def as_dict(bins: list[dict]) -> dict:
    return {row["bin"]: (row["loss"], row["tokens"]) for row in bins}


def test_analysis_of_a_case_done_by_hand(hand_made):
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])  # of  b . a a c . b
    found = analyse(hand_made, losses)
    assert found["sentences"] == {"loss": [3.0, 60.0, 64.0], "tokens": [2, 4, 1]}
    assert as_dict(found["frequency"]) == {"1–9": (115.0, 5), "10–29": (12.0, 2)}
    assert as_dict(found["position"]) == {"1": (68.0, 2), "2": (9.0, 2), "3–4": (50.0, 3)}
    # b and a first <eos> and c are new; a again after 3 and 1, <eos> after 4, b after 6
    assert as_dict(found["distance"]) == {"1–9": (108.0, 4), "new": (19.0, 3)}


def test_analysis_adds_up_to_the_total(tiny_corpus):
    losses = torch.rand(len(tiny_corpus["test"]) - 1, dtype=torch.float64)
    found = analyse(tiny_corpus, losses)
    assert sum(found["sentences"]["tokens"]) == len(losses)
    assert sum(found["sentences"]["loss"]) == pytest.approx(losses.sum().item(), abs=1e-2)
    for by in ("frequency", "position", "distance"):
        assert sum(row["tokens"] for row in found[by]) == len(losses)
        assert sum(row["loss"] for row in found[by]) == pytest.approx(losses.sum().item())


def test_word_that_training_lacks_counts_as_new(hand_made):
    hand_made.splits["train"] = torch.tensor([0, 1, 2])
    found = as_dict(analyse(hand_made, torch.ones(7))["frequency"])
    assert found == {"1–9": (6.0, 6), "new": (1.0, 1)}


# ---------------------------------------------------------------- words
def test_surprise_is_in_bits_given_all_words_before(model, tiny_corpus):
    ids = [1, 3, 4, 0, 2]
    expected = word_by_word(model.eval(), torch.tensor([0, *ids]), rows=1) / math.log(2)
    assert surprise(model, tiny_corpus, ids) == pytest.approx(expected.tolist())


def test_words_become_ids_and_unknown_ones_unk(tiny_corpus):
    words = Corpus("other", ("<eos>", "a", "<unk>"), {})
    assert encode(words, "a zebra a <eos>") == [1, 2, 1, 0]
    with pytest.raises(SettingError, match="'zebra' is not in the vocabulary of other"):
        encode(words, "a zebra", None)
    with pytest.raises(SettingError, match="'Dog' is not in the vocabulary of tiny: .* 'dogs'"):
        encode(tiny_corpus, "ann has Dog")


def test_neighbours_are_the_nearest_by_cosine_without_the_word_itself():
    matrix = torch.tensor([[1.0, 0.0], [-3.0, 0.0], [9.0, 9.0], [0.1, 0.01], [1.0, 0.0]])
    found = neighbours(matrix, 0, 3)
    assert [word for word, _ in found] == [4, 3, 2]
    assert [cosine for _, cosine in found] == pytest.approx([1, 0.995, 0.7071], abs=1e-4)
    assert [word for word, _ in neighbours(matrix, 1, 99)][-1] in (0, 4)
    assert len(neighbours(matrix, 1, 99)) == 4


# ---------------------------------------------------------------- generated text
@torch.no_grad()
def greedy_from_scratch(model, prompt: list[int], length: int) -> list[int]:
    """Reads the whole text anew for each word."""
    ids = list(prompt)
    for _ in range(length):
        logits, _ = model.logits(torch.tensor(ids)[:, None], model.initial_state(1))
        ids.append(max(range(VOCABULARY), key=lambda word: logits[-1, 0, word].item()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("prompt", [[3], [0, 5, 2]])
def test_greedy_text_is_that_of_a_plain_loop(model, prompt):
    ids = generate(model, torch.tensor(prompt), 12, temperature=0)
    assert ids == greedy_from_scratch(model, prompt, 12)


def sampled(model, seed: int, temperature: float = 1.0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return generate(model, torch.tensor([0]), 40, temperature, generator)


def test_sampled_text_is_reproducible_from_its_seed(model):
    assert sampled(model, 1) == sampled(model, 1)
    assert sampled(model, 1) != sampled(model, 2)


def test_low_temperature_comes_close_to_greedy_text(model):
    assert sampled(model, 1, temperature=1e-3) == greedy_from_scratch(model, [0], 40)


class Unchanging:
    """A model whose next word has the same probabilities everywhere."""

    window = None

    def __init__(self, *probabilities: float):
        self.scores = torch.tensor(probabilities).log()

    def eval(self):
        return self

    def initial_state(self, batch_size):
        return None

    def logits(self, x, state):
        return self.scores.expand(*x.shape, -1), state


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.6), (0.5, 0.36 / 0.44)])
def test_temperature_sharpens_the_probabilities(temperature, expected):
    generator = torch.Generator().manual_seed(1)
    model = Unchanging(0.6, 0.2, 0.2)
    ids = generate(model, torch.tensor([1]), 3000, temperature, generator)
    assert ids.count(0) / 3000 == pytest.approx(expected, abs=0.03)


def test_samples_at_three_temperatures_from_the_start_of_a_sentence(model, tiny_corpus):
    samples = write_samples(model, tiny_corpus, "a", length=9)
    assert [sample["temperature"] for sample in samples] == [0.0, 0.7, 1.0]
    greedy = greedy_from_scratch(model, [tiny_corpus.index["<eos>"]], 9)
    assert samples[0]["text"] == tiny_corpus.text(greedy)
    assert [len(sample["text"].split()) for sample in samples] == [9, 9, 9]
    train = f" {tiny_corpus.text(tiny_corpus['train'])} "
    for sample in samples:
        assert sample["memorised"] and f" {sample['memorised']} " in train
        assert sample["memorised"] in sample["text"]


def test_two_runs_draw_with_random_numbers_of_their_own(model, tiny_corpus):
    one, again, other = (write_samples(model, tiny_corpus, name, length=9) for name in "aab")
    assert one == again and one[0] == other[0] and one[2]["text"] != other[2]["text"]


def test_at_almost_no_temperature_the_likeliest_word_is_drawn(model):
    prompt, generator = torch.tensor([0]), torch.Generator()
    likeliest = generate(model, prompt, 9, 0.0)
    for temperature in (1e-30, 1e-40, 1e-300):
        assert generate(model, prompt, 9, temperature, generator.manual_seed(1)) == likeliest


@pytest.mark.parametrize(
    ("ids", "shared"),
    [([5, 1, 2, 3, 9], [1, 2, 3]), ([2, 3, 4], [2, 3, 4]), ([4, 1], [4]), ([7, 8], []), ([], [])]
    + [([1, 2, 5, 3, 4], [1, 2])],
)
def test_the_longest_sequence_that_a_text_shares_with_training(ids, shared):
    assert longest_shared(ids, torch.tensor([1, 2, 1, 2, 3, 4])) == shared


# ---------------------------------------------------------------- a saved model
@pytest.fixture
def saved(model, tiny_corpus, tmp_path) -> Run:
    run = Run(tmp_path / "run")
    with run.writing(SETTING):
        weights = dict(model.named_parameters()), tiny_corpus.words
        run.settle_weights(run.write_weights(*weights))
    return run


def test_saved_model_is_the_rounded_one(saved, model, tiny_corpus):
    loaded = load_model(saved, tiny_corpus)
    for weights in model.parameters():
        weights.data.copy_(weights.half())
    ours, expected = (token_losses(m, tiny_corpus["test"]) for m in (loaded, model))
    torch.testing.assert_close(ours, expected, check_dtype=False)


def test_saved_model_of_another_vocabulary_is_refused(saved, tiny_corpus):
    words = list(tiny_corpus.words)
    random.Random(1).shuffle(words)
    with pytest.raises(WeightsError, match="another vocabulary"):
        load_model(saved, Corpus("other", tuple(words), tiny_corpus.splits))


def test_weights_of_another_setting_are_refused_by_name(saved, tiny_corpus):
    record = (saved.folder / "setting.json").read_text()
    (saved.folder / "setting.json").write_text(record.replace('"hidden": 4', '"hidden": 5'))
    with pytest.raises(WeightsError, match=r"of another setting: layers\.0\.\w+, .* differ"):
        load_model(saved, tiny_corpus)


# ---------------------------------------------------------------- along the window
@pytest.mark.parametrize("bptt", [2, 4, 60])
def test_losses_by_step_are_those_of_a_plain_loop(model, bptt):
    ids = random_ids(73)  # rows of 7: one target more than their 7 · 10 has no row
    found, steps = step_losses(model, ids, bptt), min(bptt, 7)
    carried, fresh = (torch.zeros(steps, dtype=torch.float64) for _ in range(2))
    for row in range(10):
        text = ids[7 * row : 7 * row + 8]
        windows = [text[n : n + steps + 1] for n in range(0, 7 - steps + 1, steps)]
        whole = word_by_word(model.eval(), text, rows=1)[: steps * len(windows)]
        carried += whole.view(-1, steps).mean(0) / 10
        fresh += sum(word_by_word(model, w, rows=1) for w in windows) / len(windows) / 10
    assert found["carried"] == pytest.approx(carried.tolist())
    assert found["fresh"] == pytest.approx(fresh.tolist())


@pytest.mark.parametrize("count", [2, 5, 11])
def test_losses_by_step_of_a_short_split(model, count):
    assert len(step_losses(model, random_ids(count), 35)["fresh"]) == 1


def test_unigram_perplexity_by_hand(hand_made):
    hand_made.splits["valid"] = torch.tensor([0, 1, 2, 3])
    counts = [13, 4, 2]  # of a, b and c, one more each; 22 in all
    expected = math.exp(-sum(math.log(count / 22) for count in counts) / 3)
    assert unigram(hand_made) == pytest.approx(expected)
