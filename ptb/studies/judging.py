"""What models write, read again by another model of the same study."""

import math

from ptb.data.corpora import load
from ptb.data.corpus import Corpus
from ptb.evaluation.analysis import surprise
from ptb.evaluation.generation import encode
from ptb.runs.files import JUDGED
from ptb.runs.run import Run, load_model
from ptb.setting import Setting


def choose_judges(settings: list[Setting], valid: list[float]) -> list[int]:
    """For each run the place of its judge: the best on validation of those with another cell.

    So no model reads texts of its own kind. A run that no other cell stands beside has −1.
    """
    order = sorted(range(len(settings)), key=valid.__getitem__)
    return [
        next((n for n in order if settings[n].cell != setting.cell), -1) for setting in settings
    ]


def judge(runs: list[Run]) -> None:
    """Has each run's texts read by its judge, and records what they cost it: judged.json.

    "losses" has a text's mean loss in nats per word, given its start; "real" is the judge's loss on
    the validation split. The runs are of one study; those without weights or texts are passed over.
    All are judged anew, as a run that is new may be a better judge.
    """
    runs = [run for run in runs if run.texts and run.has_weights]
    # read as texts are: a Transformer's windows slide
    valid = [run.metrics.get("sliding", run.metrics)["valid"]["loss"] for run in runs]
    chosen = choose_judges([run.setting for run in runs], valid)
    for place in {*chosen} - {-1}:
        corpus = load(runs[place].setting.corpus)
        model = load_model(runs[place], corpus)
        for run, by in zip(runs, chosen, strict=True):
            if by == place:
                losses = [_loss(model, corpus, text) for text in run.texts]
                record = {"judge": runs[place].folder.name, "real": valid[place], "losses": losses}
                run.write(JUDGED, record)


def _loss(model, corpus: Corpus, text: dict) -> float:
    bits = surprise(model, corpus, encode(corpus, f"{text['start']} {text['text']}"))[1:]
    return round(math.log(2) * sum(bits) / len(bits), 4)
