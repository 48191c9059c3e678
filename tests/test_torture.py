"""A few rounds of the torture; `make torture` has as many as you like."""

from torture import CASES, torture


def test_runs_killed_at_random_moments_are_exact():
    assert torture(len(CASES)).total() > 0
