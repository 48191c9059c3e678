"""What a notebook calls, from one import: `import ptb_utils as pu`. Names only."""

from ptb.data.corpora import load
from ptb.data.corpus import SPLITS
from ptb.errors import counted
from ptb.evaluation import inspection
from ptb.evaluation.generation import generate_rows
from ptb.evaluation.perplexity import measure, perplexity, token_losses
from ptb.models import plain
from ptb.models.cells import parameter_count
from ptb.models.language_model import build
from ptb.models.precision import check_precision
from ptb.notebook import (
    check,
    check_parameters,
    choose_experiments,
    choose_study,
    continued,
    find_recurrent_runs,
    find_run,
    is_published,
    neighbour_table,
    read_sentence,
    read_text,
    remeasure,
    surprises,
    title_page,
    use_threads,
)
from ptb.paths import RECORDS, RUNS, relative
from ptb.report import figures, inspection_figures, literature, tables, texts
from ptb.report.cell_diagrams import draw_cell
from ptb.report.claim import Claims, bullets, listed, number, paragraph, signed
from ptb.report.contrast import Contrast, OverSeeds, after, by_setting, too_short
from ptb.report.display import Markdown, passage, show, source, table
from ptb.report.drawings import draw_dropout, draw_windows
from ptb.report.interactive import explore
from ptb.report.live import Live
from ptb.report.model_table import model_table
from ptb.report.one_run import next_steps, result, setting_table
from ptb.runs.run import Run, load_model, run_folder, vocabulary
from ptb.runs.table import find_runs
from ptb.setting import Setting, check_number
from ptb.studies import trials
from ptb.training.tracking import check_tracker, track
from ptb.training.train import train
from ptb.training.trainer import check_device

__all__ = [
    "RECORDS", "RUNS", "SPLITS", "Claims", "Contrast", "Live", "Markdown", "OverSeeds", "Run",
    "Setting", "after", "build", "bullets", "by_setting", "check", "check_device", "check_number",
    "check_parameters", "check_precision", "check_tracker", "choose_experiments",
    "choose_study", "continued", "counted", "draw_cell", "draw_dropout", "draw_windows",
    "explore", "figures", "find_recurrent_runs", "find_run", "find_runs", "generate_rows",
    "inspection", "inspection_figures", "is_published", "listed", "literature", "load",
    "load_model", "measure", "model_table", "neighbour_table", "next_steps", "number", "paragraph",
    "parameter_count", "passage", "perplexity", "plain", "read_sentence", "read_text",
    "relative", "remeasure", "result", "run_folder", "setting_table", "show", "signed",
    "source", "surprises", "table", "tables", "texts", "title_page", "token_losses",
    "too_short", "track", "train", "trials", "use_threads", "vocabulary",
]  # fmt: skip
