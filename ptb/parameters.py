"""A notebook's parameters: what its parameters cell and papermill's assign, checked by name."""

import ast
from collections.abc import Iterable

from ptb.setting import check_names

INJECTED = "# Parameters"  # how the cell begins that papermill adds


def check_parameters(names: dict, known: tuple[str, ...], makes: Iterable[str] = ()) -> None:
    """Raises SettingError for a parameter that the notebook does not have.

    names is the notebook's globals(), known are its parameters. What other cells assign is theirs,
    and stays. makes are the names that the calling cell is about to assign: what an earlier run of
    it left is removed first, so that no cell below works with an old setting after a refusal.
    """
    for name in makes:
        names.pop(name, None)
    check_names(_given(names.get("In", []), known), known)


def _given(executed: list[str], known: tuple[str, ...]) -> list[str]:
    """The names that the parameters cell assigns, and papermill's where it follows it.

    executed are the sources of all cells in the order in which they ran, IPython's `In`. The
    parameters cell is the last that gives values, not results of calls, to most of the known names:
    a cell has no tags here.
    """
    given: list[str] = []
    for source in executed:
        assigned = _assigned(source)
        values = {name for name, called in assigned.items() if not called}
        if source.startswith(INJECTED):
            given = [*given, *assigned]
        elif len(set(known) & values) > len(known) / 2:
            given = list(assigned)
    return [name for name in given if not name.startswith("_")]


def _assigned(source: str) -> dict[str, bool]:
    """The names that a cell's own statements assign, and whether by a call; imports are none."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # the cell did not run
        return {}
    return {
        node.id: any(isinstance(part, ast.Call) for part in ast.walk(statement))
        for statement in statements
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
