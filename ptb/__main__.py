"""The command line: `python -m ptb COMMAND`, and `--help` behind any of them."""

import argparse
import inspect
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ptb.errors import PlainError, SettingError, StudyError, closest, counted, meant
from ptb.paths import NOTEBOOKS, RUNS
from ptb.setting import DEVICES, FIELDS, Setting, check_number

# What takes seconds to import (torch, pandas, papermill) is imported by the command that needs it.

EXAMPLES = """examples:
  python -m ptb train --cell gru --dropout 0.25           train one setting, in runs/
  python -m ptb study run dropout                         the exercise's four runs
  python -m ptb study report dropout                      their PDF report
  python -m ptb score RUN "the company said it"           perplexity of a text, word by word
  python -m ptb sample RUN --prompt "the company"         let a trained model write
RUN is a run's folder, as runs/dropout/NAME or report/records/dropout/NAME."""


# ---------------------------------------------------------------- train, trial
def add_setting(parser: argparse.ArgumentParser) -> None:
    """An option for every choice of a Setting, by the notebooks' names: --weight-decay 1e-5."""
    for name, field in FIELDS.items():
        kind = _yes_or_no if field.type is bool else field.type
        default = f"default: {field.default!r}" if name in ("cell", "dropout", "corpus") else None
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar=name.upper(), help=default
        )
    parser.add_argument("--threads", type=int, default=1, help="torch's (default: 1)")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="(default: cpu)")


def _yes_or_no(word: str) -> bool:
    if word.lower() not in ("true", "false", "yes", "no"):
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return word.lower() in ("true", "yes")


def chosen_setting(options) -> Setting:
    """The recipe's setting with what was chosen; raises SettingError."""
    from ptb.data.corpora import recorded_name
    from ptb.recipes import recipe

    chosen = {name: getattr(options, name) for name in FIELDS}
    first = {name: chosen.pop(name) for name in ("cell", "dropout", "corpus")}
    first = {n: FIELDS[n].default if value is None else value for n, value in first.items()}
    setting = recipe(**first, **chosen)
    return replace(setting, corpus=recorded_name(setting.corpus))


def train(options) -> int:
    """Trains one setting, in runs/STUDY/RUN; stopped and started again it goes on.

    Its options are the fields of Setting in ptb/setting.py, where each is explained. What is not
    given is taken from the recipe of that cell, dropout and corpus (ptb/recipes.py).
    """
    from ptb.runs.run import run_folder
    from ptb.studies.trials import train_here

    setting = chosen_setting(options)
    folder = run_folder(setting, options.study)
    metrics = train_here(setting, folder, options.threads, options.device)
    print(f"{folder}: {metrics['status']}" + _reason(metrics))
    if metrics["best_epoch"] is not None:
        for split in ("train", "valid", "test"):
            print(f"{split}: perplexity {metrics[split]['perplexity']:.2f}")
    return 0


def _reason(metrics: dict) -> str:
    """Why a run diverged; nothing for one that did not."""
    return f" ({metrics['reason']})" if "reason" in metrics else ""


def trial(options) -> int:
    """Trains a setting in runs/trials and adds its row to report/trials.csv.

    Its options are those of train. The test split has no column there: nothing may be chosen by it.
    """
    from ptb.runs.run import Run
    from ptb.studies import trials

    setting = chosen_setting(options)
    trials.read()  # raises where the table is damaged, before anything is trained
    run = Run(RUNS / "trials" / setting.name)
    metrics = trials.train_here(setting, run.folder, options.threads, options.device)
    trials.record(run)
    print(f"{run.folder}: {metrics['status']}" + _reason(metrics))
    return 0


# ---------------------------------------------------------------- study, report, publish
FOR_RUN = ("device", "scheduler", "workers", "scale", "precision", "only")


def study(options) -> int:
    """Runs a study, reports it, publishes it, or rebuilds the published report from its records."""
    settings = chosen_study(options)
    if options.action != "run":
        for name in FOR_RUN:
            if getattr(options, name) is not None:
                line = f"--{name} is for `study run`: {options.action} takes what the runs have"
                raise SettingError(line)
        from ptb.report import publish

        publish.check_converters()
        print(getattr(publish, options.action)(options.study))
        return 0
    from ptb.runs.table import faults, find_runs
    from ptb.studies.cluster import dask_executor
    from ptb.studies.execute import run_study
    from ptb.studies.judging import judge
    from ptb.studies.local import LocalPool
    from ptb.studies.named import SECOND_EXERCISE

    device = options.device or "cpu"
    workers = options.workers
    if workers is None:
        workers = 1 if device == "cuda" else _cores()
    check_number("workers", int, workers)
    local = options.scheduler is None
    if options.workers is not None and not local:
        raise SettingError("--workers is for runs on this machine: a scheduler has its own workers")
    with LocalPool(workers) if local else dask_executor(options.scheduler) as executor:
        folder = RUNS / options.study
        failed = run_study(settings, folder, executor, device)
    print("\n".join(["", "failed:", *failed]) if failed else "all runs are done", flush=True)
    if options.study in SECOND_EXERCISE:
        judge([run for run in find_runs(folder) if not faults(run)])
    return 1 if failed else 0


def _cores() -> int:
    """The number of cores that this process may use, of which a scheduler can have given it few."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count()


def chosen_study(options) -> list[Setting]:
    """A study's settings: at the scale and precision, and of the experiments, that were asked for.

    Raises SettingError for a study, an experiment or a precision that does not exist.
    """
    from ptb.studies.architectures import at_scale
    from ptb.studies.named import STUDIES

    if options.study not in STUDIES:
        known = meant(options.study, list(STUDIES))
        raise SettingError(f"no study is called {options.study!r}: {known}")
    settings = STUDIES[options.study]
    if options.scale is not None:
        scale = check_number("scale", float, options.scale)
        settings = [at_scale(setting, scale) for setting in settings]
    if options.precision is not None:
        settings = [replace(setting, precision=options.precision) for setting in settings]
    known = [setting.experiment for setting in settings if setting.experiment]
    for name in options.only or ():
        if not known:
            raise SettingError(f"{options.study} has no experiments: leave out --only {name}")
        if name not in known:
            raise SettingError(f"{options.study} has no experiment {name!r}: {meant(name, known)}")
    return [s for s in settings if not options.only or s.experiment in options.only]


def adapt(options) -> int:
    """Measures a study's models: tuned temperature, dynamic evaluation, ensemble."""
    from ptb.studies.adaptation import adapt_study

    adapt_study(RUNS / options.study, options.runs)
    return 0


def baselines(options) -> int:
    """Measures n-gram models on Penn Treebank: report/baselines.json."""
    from ptb.data.corpora import load
    from ptb.studies.baselines import write_baselines

    for row in write_baselines(load("ptb")):
        print(f"{row['model']}: {row['valid']['perplexity']:.2f} / {row['test']['perplexity']:.2f}")
    return 0


# ---------------------------------------------------------------- score, sample
def _loaded(options):
    """A run's vocabulary, for which its corpus need not be here, and its model."""
    from ptb.runs.run import Run, load_model, vocabulary
    from ptb.runs.table import check_measured

    run = Run(options.run)
    if not run.done:
        raise StudyError(
            f"{options.run} is not the folder of a finished run: it has no metrics.json"
        )
    check_measured(run)
    corpus = vocabulary(run)
    return corpus, load_model(run, corpus)


def score(options) -> int:
    """Perplexity of a text, and the loss of each of its words in nats."""
    from ptb.evaluation.scoring import score_sentences

    corpus, model = _loaded(options)
    scored = score_sentences(model, corpus, options.text or _typed_lines(), options.independent)
    for word, shown, loss in scored.words:
        print(f"{loss:8.3f}  {word}" + ("" if word == shown else f" ({shown})"))
    words = counted(len(scored.words), "word")
    print(f"{words}, {scored.loss:.3f} nats per word: {scored.perplexity:.2f}")
    return 0


def _typed_lines() -> list[str]:
    """The lines of standard input, which end where those of a corpus do."""
    if sys.stdin is None:
        raise StudyError("there is no text: standard input is closed")
    try:
        return list(sys.stdin)
    except UnicodeDecodeError:
        raise StudyError("standard input is not UTF-8") from None


def sample(options) -> int:
    """Lets a trained model write on from a prompt."""
    import torch

    from ptb.data.corpus import EOS
    from ptb.evaluation.generation import encode, generate

    temperature = check_number("temperature", float, options.temperature)
    length = check_number("length", int, options.length)
    seed = check_number("seed", int, options.seed)
    corpus, model = _loaded(options)
    prompt = encode(corpus, options.prompt)
    start = torch.tensor([corpus.index[EOS], *prompt])
    generator = torch.Generator().manual_seed(seed)
    ids = generate(model, start, length, temperature, generator)
    words = ["\n" if word == EOS else word for word in corpus.text([*prompt, *ids]).split(" ")]
    print(" ".join(words).replace(" \n", "\n").replace("\n ", "\n"))
    return 0


def copies(options) -> int:
    """Executes the notebooks into report/notebooks, to be read on GitHub."""
    from ptb.report.publish import execute_copies

    print(execute_copies())
    return 0


def student(options) -> int:
    """Writes the assignments and their students' versions: assignments/course, for nbgrader."""
    from ptb.report.student import write_course

    print(write_course())
    return 0


def site(options) -> int:
    """Writes the executed notebooks and the docs as HTML pages that need no network: site/."""
    from ptb.report.site import write_site

    print(write_site())
    return 0


# These read or write what an installed package lacks.
IN_A_CLONE = (trial, study, baselines, copies, student, site)


# ---------------------------------------------------------------- the parser
LAYOUT = {"formatter_class": argparse.RawDescriptionHelpFormatter}  # keeps the examples' lines


class Parser(argparse.ArgumentParser):
    """A parser that takes options by their whole names and refuses in one line."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, allow_abbrev=False, **named)

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parser() -> Parser:
    main = Parser("python -m ptb", description=__doc__, epilog=EXAMPLES, **LAYOUT)
    commands = main.add_subparsers(required=True, metavar="COMMAND")
    one = add_command(commands, train, "train --cell gru --dropout 0.25 --epochs 18")
    one.add_argument("--study", help="the run's folder is runs/STUDY/RUN (default: by the corpus)")
    add_setting(one)
    add_setting(add_command(commands, trial, "trial --cell gru --dropout 0.4 --lr 20 --epochs 30"))
    add_study_options(add_command(commands, study, "study run dropout --workers 2"))
    later = add_command(commands, adapt, "adapt beyond")
    later.add_argument("study", help="the name of a study in runs/")
    later.add_argument("runs", nargs="*", metavar="RUN", help="of its folders (default: all)")
    add_command(commands, baselines, "baselines")
    add_score_options(add_command(commands, score, 'score runs/dropout/NAME "the company said it"'))
    example = 'sample runs/dropout/NAME --prompt "the company" --temperature 0.7'
    add_sample_options(add_command(commands, sample, example))
    add_command(commands, copies, "copies")
    add_command(commands, student, "student")
    add_command(commands, site, "site")
    main.commands = commands.choices
    return main


def add_command(commands, function: Callable, example: str) -> argparse.ArgumentParser:
    """A command with the function's name, which its docstring describes."""
    about = inspect.getdoc(function)
    added = commands.add_parser(
        function.__name__,
        help=about.splitlines()[0],
        description=about,
        epilog=f"example:\n  python -m ptb {example}",
        **LAYOUT,
    )
    added.set_defaults(command=function)
    return added


def add_study_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["run", "report", "publish", "rebuild"])
    parser.add_argument(
        "study", nargs="?", default="dropout", help="one of docs/studies.md (default: dropout)"
    )
    parser.add_argument("--device", choices=DEVICES, help="(default: cpu)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="run on this Dask cluster")
    parser.add_argument(
        "--workers", type=int, help="runs at a time (default: the cores; 1 on a GPU)"
    )
    parser.add_argument("--scale", type=float, help="of widths and epochs, for architectures")
    parser.add_argument(
        "--precision", help="of products: float32, tf32 (a GPU) or bfloat16 (a CPU)"
    )
    parser.add_argument("--only", nargs="+", metavar="EXPERIMENT", help="of architectures: 3.1d")


def add_score_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's folder")
    parser.add_argument(
        "text", nargs="*", help="a sentence each (default: standard input, by line)"
    )
    parser.add_argument(
        "--independent",
        action="store_true",
        help="the sentences do not follow one another; before RUN or behind the text",
    )


def add_sample_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's folder")
    parser.add_argument("--prompt", default="", help="its first words (default: none)")
    parser.add_argument("--temperature", type=float, default=1.0, help="(default: 1.0)")
    parser.add_argument("--length", type=int, default=40, help="words to write (default: 40)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The options; or exits with 2, suggesting the command or option that was probably meant."""
    whole, typed = parser(), sys.argv[1:] if arguments is None else arguments
    if typed and not typed[0].startswith("-") and typed[0] not in whole.commands:
        whole.error(f"no command is called {typed[0]!r}{closest(typed[0], list(whole.commands))}")
    options, unknown = whole.parse_known_args(typed)
    if unknown:
        own, name = whole.commands.get(typed[0], whole), unknown[0].partition("=")[0]
        if not name.startswith("-"):
            own.error(f"{name!r} is one word too many, or belongs before the options")
        known = re.findall(r"--[\w-]+", own.format_usage())
        own.error(f"there is no {name!r}{closest(name, known)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The status: 0, or 1 where something failed, which one line on standard error says.

    What cannot be parsed ends the process with 2, as argparse has it.
    """
    options = parsed(arguments)
    try:
        if options.command in IN_A_CLONE and not NOTEBOOKS.is_dir():
            name = options.command.__name__
            raise StudyError(f"{name} needs the repository's notebooks and records: use a clone")
        status = options.command(options)
        if sys.stdout:  # None: it is closed
            sys.stdout.flush()
        return status
    except BrokenPipeError:  # as `| head` leaves it: what is left to write goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except PlainError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` as Ctrl-C
    for stream in filter(None, (sys.stdin, sys.stdout, sys.stderr)):  # None: it is closed
        # texts are UTF-8, whatever the system's own encoding is; before one a mark may stand
        encoding, errors = "utf-8", "backslashreplace"
        if stream is sys.stdin:
            encoding, errors = "utf-8-sig", "strict"
        stream.reconfigure(encoding=encoding, errors=errors)
    sys.exit(main())
