"""The claims of report.ipynb: the records bear them, a published report fails where they do not."""

import re

import nbformat
import pytest
from pypdf import PdfReader
from test_tables import PERPLEXITIES, make_table

import ptb_utils as pu
from ptb.errors import ClaimError
from ptb.evaluation import comparison
from ptb.paths import NOTEBOOKS, ROOT
from ptb.report.claim import Claims
from ptb.report.tables import recorded

SKIPPED = ("theory.", "manual_seed", "parameter_count", "pu.show(", "tables.trials")


@pytest.fixture
def claimed(monkeypatch):
    """A function that executes the cells with claims and gives the sentences that stand."""
    monkeypatch.setattr(comparison, "DRAWS", 400)
    cells = [c for c in nbformat.read(NOTEBOOKS / "report.ipynb", 4).cells if c.cell_type == "code"]
    skipped = {c.id for c in cells if any(word in c.source for word in SKIPPED)}
    assert not any("claim(" in c.source for c in cells if c.id in skipped)
    sources = [c.source for c in cells if c.id not in skipped]
    said = []

    class Recorder(Claims):
        def __call__(self, *arguments, **named):
            said.append(super().__call__(*arguments, **named))
            return said[-1]

    def run(table, published):
        said.clear()
        monkeypatch.setattr(pu, "Claims", Recorder)
        monkeypatch.setattr(pu, "choose_study", lambda study: (table, "The runs are yours."))
        monkeypatch.setattr(pu, "is_published", lambda table: published)
        monkeypatch.setattr(pu, "check_parameters", lambda *arguments, **named: None)
        names = {"display": lambda *shown, **others: None}
        for source in sources:
            exec(source, names)
        return list(filter(None, said))

    return run


def test_the_records_bear_every_sentence(claimed):
    said = claimed(recorded("dropout"), published=True)
    assert len(said) >= 15 and "nan" not in " ".join(said)
    assert any("the LSTM is ahead: the GRU's test perplexity differs by +2.3%" in s for s in said)


def test_the_published_pdf_says_it(claimed):
    """Sentences with links or marks aside, which the PDF shows otherwise."""
    pages = PdfReader(ROOT / "report" / "report.pdf").pages
    text = re.sub(r"\W", "", "".join(page.extract_text() for page in pages))
    said = claimed(recorded("dropout"), published=True)
    begun = [one[:80] for one in said]  # with fewer draws, intervals are others here
    plain = [re.sub(r"\W", "", one) for one in begun if not re.search(r"[\[`*$]|interval", one)]
    assert len(plain) >= 10 and [one for one in plain if one not in text] == []


def test_a_published_report_whose_records_turn_fails_with_the_sentence(claimed):
    table = recorded("dropout")
    turned = table.assign(cell=table["cell"].map({"lstm": "gru", "gru": "lstm"}))
    with pytest.raises(ClaimError, match="“Longer training helps with rare words"):
        claimed(turned, published=True)


def test_own_runs_are_told_what_holds_of_them_alone(claimed, tmp_path):
    harmed = PERPLEXITIES | {("lstm", 0.3): (70.0, 130.0, 128.0)}
    before = " ".join(claimed(make_table(tmp_path / "before"), published=False))
    after = " ".join(claimed(make_table(tmp_path / "after", harmed), published=False))
    assert "lowers test perplexity: −18.1%" in before and "lowers test" not in after
    assert "beside that without: +10.3% (95% interval " in after  # no lead-in stands alone
    assert "is not the last" in before  # the best epoch is the second of three
    assert "further seeds" not in before  # the repository's other studies
    assert "nan" not in before + after


@pytest.mark.parametrize("count", [1, 3])
def test_an_incomplete_study_is_told_what_was_not_measured(claimed, tmp_path, count):
    some = dict(list(PERPLEXITIES.items())[:count])
    said = " ".join(claimed(make_table(tmp_path, some), published=False))
    assert "nan" not in said and "All four" not in said
    assert "lowers test perplexity: " not in said
    assert "With dropout, the GRU's test perplexity beside the LSTM's: not measured." in said
