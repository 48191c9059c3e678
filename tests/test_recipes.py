"""ptb.recipes: a cell and a dropout rate get their choices, and whatever is chosen stands."""

from dataclasses import replace

import pytest

from ptb.errors import SettingError
from ptb.recipes import recipe


def test_recipe_brings_its_own_choices_by_cell_and_dropout():
    settings = [recipe(cell, dropout) for cell in ("lstm", "gru", "rnn") for dropout in (0.0, 0.3)]
    assert [(s.cell, s.dropout) for s in settings[:3]] == [("lstm", 0), ("lstm", 0.3), ("gru", 0)]
    assert len({(s.lr, s.epochs) for s in settings}) > 1


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_much_dropout_gets_more_epochs_unless_one_says_otherwise(cell):
    little, much = recipe(cell, 0.3), recipe(cell, 0.5)
    assert much.epochs > 1.5 * little.epochs and much.lr == little.lr
    assert recipe(cell, 0.5, epochs=7).epochs == 7
    assert recipe(cell, 0.5, "embedded").epochs == recipe(cell, 0.3, "embedded").epochs


@pytest.mark.parametrize("corpus", ["ptb", "embedded"])
def test_recipe_of_a_transformer(corpus):
    """As wide as the LSTM; without dropout there is none in attention either."""
    plain, dropped = (recipe("transformer", p, corpus) for p in (0.0, 0.3))
    assert (plain.embedding, plain.hidden, plain.layers) == (200, 200, 2)
    assert plain.attention_dropout == 0 < dropped.attention_dropout
    assert plain.optimiser == "adamw" and plain.lr < 0.1
    assert recipe("transformer", 0.3, corpus, embedding=64, hidden=64, heads=1).heads == 1


def test_none_leaves_a_choice_to_the_recipe_and_a_value_replaces_it():
    best = recipe("gru", 0.0)
    assert recipe("gru", 0.0, lr=None, epochs=None, clip=None) == best
    assert recipe("gru", 0.0, lr=best.lr + 1, clip=0.0) == replace(best, lr=best.lr + 1, clip=0.0)


def test_recipe_for_the_embedded_corpus_is_another():
    setting = recipe("lstm", 0.3, "embedded")
    assert setting.corpus == "embedded"
    assert setting != replace(recipe("lstm", 0.3), corpus="embedded")


def test_recipe_refuses_unknown_names_and_bad_values():
    with pytest.raises(SettingError, match="did you mean 'epochs'"):
        recipe("lstm", 0.0, epoch=3)
    with pytest.raises(SettingError, match="did you mean 'lstm'"):
        recipe("lsmt", 0.0)
    with pytest.raises(SettingError, match="lr = -1"):
        recipe("lstm", 0.0, lr=-1)


@pytest.mark.parametrize(("cell", "optimiser"), [("lstm", "adamw"), ("transformer", "sgd")])
def test_another_optimiser_than_the_recipes_needs_a_rate_of_its_own(cell, optimiser):
    with pytest.raises(SettingError, match=f"'{optimiser}' needs a lr of its own: try lr = ") as e:
        recipe(cell, 0.3, optimiser=optimiser)
    rate = float(str(e.value).split()[-1])
    assert recipe(cell, 0.3, optimiser=optimiser, lr=rate).lr == rate
    own = recipe(cell, 0.3)
    assert recipe(cell, 0.3, optimiser=own.optimiser) == own
