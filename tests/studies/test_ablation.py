"""The ablation adds one thing at a time; the finalists are of the exercise's size."""

from dataclasses import asdict

import pytest

from ptb.setting import Setting
from ptb.studies import ablation
from ptb.studies.named import STUDIES


def changes(before: Setting, after: Setting) -> dict:
    before, after = asdict(before), asdict(after)
    return {name: after[name] for name in after if after[name] != before[name]}


@pytest.mark.parametrize("cell", ablation.ABLATED)
def test_each_step_adds_one_thing_to_the_one_before(cell):
    plain, tied, projected = ablation.variants(cell).values()
    assert changes(plain, tied) == {"tied": True}
    assert changes(tied, projected) == {"projected": True}


def test_all_are_two_layers_of_200_units_and_each_is_there_once():
    settings = STUDIES["ablation"] + STUDIES["beyond"]
    assert {(s.embedding, s.hidden, s.layers) for s in settings} == {(200, 200, 2)}
    assert len({s.name for s in settings}) == len(settings)
