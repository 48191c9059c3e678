"""Training in JupyterLab as a person does it, in a headless Chromium: `make test-browser`.

Opens a copy of train.ipynb on the embedded corpus, runs all cells, stops the run with the toolbar's
button, runs all cells again. Exits at the first thing that is not as it should be, with one line;
what the page looked like is in tests/screenshots.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import nbformat
from selenium.common import TimeoutException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from ptb.paths import ROOT
from ptb.runs.run import Run

SCREENSHOTS = Path(__file__).with_name("screenshots")
PATIENCE = 600  # seconds for what takes one or two on an idle machine
BROWSER = (
    "--headless=new",
    "--no-sandbox",  # which root can't have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--window-size=1280,1000",
)
SERVER = (
    "--no-browser",
    "--allow-root",
    "--IdentityProvider.token=",
    "--ServerApp.port_retries=0",
    "--ServerApp.log_level=CRITICAL",
)
OUTPUT, IDLE = ".jp-OutputArea-output", '.jp-NotebookPanel-toolbar [data-status="idle"]'
ERROR = f'{OUTPUT}[data-mime-type="application/vnd.jupyter.stderr"]'  # warnings too
TRAINING, RESULT, FILES = "train-11", "train-13", "train-17"  # ids of cells


def copy_notebook(folder: Path) -> dict[str, int]:
    """train.ipynb in that folder, on the embedded corpus; returns the place of each cell's id."""
    notebook = nbformat.read(ROOT / "notebooks" / "train.ipynb", 4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    chosen = {
        'corpus = "ptb"': 'corpus = "embedded"',
        "epochs = None": "epochs = 6",
        "folder = None": 'folder = "run"',
    }
    for default, choice in chosen.items():
        if default not in cell.source:
            sys.exit(f"the parameters cell of train.ipynb has no {default}")
        cell.source = cell.source.replace(default, choice)
    nbformat.write(notebook, folder / "train.ipynb")
    return {cell.id: place for place, cell in enumerate(notebook.cells)}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def jupyterlab(folder: Path):
    """JupyterLab in that folder, its settings there too; gives its address."""
    kinds = ("CONFIG", "DATA", "RUNTIME")
    own = {f"JUPYTER_{kind}_DIR": str(folder / ".jupyter" / kind) for kind in kinds}
    own["IPYTHONDIR"] = str(folder / ".ipython")
    command = [sys.executable, "-m", "jupyter", "lab", *SERVER, f"--port={(port := free_port())}"]
    server = subprocess.Popen(command, cwd=folder, env=os.environ | own)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()


@contextmanager
def chromium(profile: Path):
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (*BROWSER, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The notebook in the browser: what a person clicks on, and what is there to see."""

    def __init__(self, driver: Chrome, places: dict[str, int]):
        self.driver, self.places = driver, places

    def wait(self, what: str, condition, patience: float = PATIENCE):
        """The condition's value as soon as it holds; TimeoutException, which says what, if never.

        JupyterLab draws elements anew while they are read, so a read that fails is one more wait.
        """
        unready = (WebDriverException, IndexError)
        wait = WebDriverWait(self.driver, patience, ignored_exceptions=unready)
        value = wait.until(lambda driver: condition(), what)
        print(what, flush=True)
        return value

    def check(self, what: str, holds: bool) -> None:
        """The same for what must hold by now."""
        self.wait(what, lambda: holds, patience=0)

    def open(self, address: str) -> None:
        url = f"{address}/lab/tree/train.ipynb"
        self.wait("the server answers", lambda: self.driver.get(url) or True)
        self.wait("the notebook opens", lambda: self.find(".jp-Cell"))

    def find(self, css: str, cell: str | None = None) -> list:
        """The elements that match, in the whole page or in the cell with that id."""
        within = f'.jp-Cell[data-windowed-list-index="{self.places[cell]}"] ' if cell else ""
        return self.driver.find_elements(By.CSS_SELECTOR, within + css)

    def in_view(self, cell: str) -> bool:
        """Whether the cell's beginning is within the window."""
        (top,) = {e.rect["y"] for e in self.find(".jp-InputArea", cell)}
        scrolled = self.driver.execute_script("return window.scrollY")
        return 0 <= top - scrolled < self.driver.execute_script("return window.innerHeight")

    def click(self, css: str, text: str = "") -> None:
        """On the first that matches and has that text."""

        def clicked():
            [e for e in self.find(css) if text in e.text][0].click()
            return True

        self.wait(f"a click on {text or css}", clicked)

    def text(self, cell: str, kind: str = OUTPUT) -> str:
        """What the cell put out, or one kind of it."""
        return "\n".join(e.get_attribute("textContent") for e in self.find(kind, cell))

    def run_all(self) -> None:
        self.wait("the kernel is idle", lambda: self.find(IDLE))
        self.click(".lm-MenuBar-item", "Run")
        self.click('.lm-Menu-item[data-command="runmenu:run-all"]')

    def shot(self, name: str, cell: str | None = None) -> None:
        """A screenshot; with a cell, of that one and what is below it."""
        if cell:
            self.driver.execute_script("arguments[0].scrollIntoView()", self.find("*", cell)[0])
        SCREENSHOTS.mkdir(exist_ok=True)
        self.driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))


def bars(page: Page) -> list[float]:
    return [float(bar.get_attribute("value")) for bar in page.find("progress[value]", TRAINING)]


def epochs(page: Page) -> list[str]:
    """The printed lines, an epoch each."""
    return re.findall(r".*: epoch \d+/.*", page.text(TRAINING))


def figure_is_seen(page: Page) -> bool:
    """One figure, drawn, and not wider than the room for it."""
    widths = [figure.size["width"] for figure in page.find("img", TRAINING)]
    room = page.find(OUTPUT, TRAINING)[-1].size["width"]
    return len(widths) == 1 and 300 < widths[0] <= room


def trains(page: Page) -> None:
    """From the opened notebook to a run in the middle of its third epoch."""
    page.shot("1-opened")
    page.run_all()
    first = page.wait("a progress bar appears", lambda: bars(page))
    page.wait("Run All leaves the training cell in view", lambda: page.in_view(TRAINING))
    page.wait("the bar moves", lambda: bars(page) and bars(page) > first)
    page.wait("the figure appears after the first epoch", lambda: figure_is_seen(page))
    page.check("the training cell is in view with it", page.in_view(TRAINING))
    page.wait("the third epoch begins", lambda: "epoch 3/6, running" in page.text(TRAINING))
    page.shot("2-training", TRAINING)


def stops(page: Page) -> list[str]:
    """By the stop button; returns the lines of the epochs that had ended."""
    page.click('.jp-Toolbar-item[data-jp-item-name="interrupt"] jp-button')
    page.wait("an error stops the run", lambda: page.find(ERROR, TRAINING))
    page.wait("the kernel is idle after the stop", lambda: page.find(IDLE))
    page.shot("3-stopped", TRAINING)
    done, said = epochs(page), page.text(TRAINING, ERROR).strip()
    expected = f"stopped after epoch {len(done)}: start it again and it goes on from there"
    page.check(f"“{expected}” is all of “{said}”", said == f"RunError: {expected}")
    page.check("a figure and no bar are left", figure_is_seen(page) and not bars(page))
    page.check("no cell behind it has run", not page.text(RESULT))
    return done


def resumes(page: Page, done: list[str], folder: Path) -> None:
    page.run_all()
    page.wait(
        "the bar comes back, in the epoch that was stopped",
        lambda: f"epoch {len(done) + 1}/6, running" in page.text(TRAINING),
    )
    page.shot("4-resumed", TRAINING)
    page.check("the finished epochs are not trained again", epochs(page)[: len(done)] == done)
    page.wait("the last cell lists the run's files", lambda: "metrics.json" in page.text(FILES))
    page.shot("5-finished", TRAINING)
    page.shot("6-result", RESULT)
    page.check(
        "six epochs are printed, the first as before",
        len(epochs(page)) == 6 and epochs(page)[: len(done)] == done,
    )
    page.check("a figure and no bar are left", figure_is_seen(page) and not bars(page))
    tests = f"{Run(folder).metrics['test']['perplexity']:.2f}"
    page.check("the result table has the test perplexity", tests in page.text(RESULT))
    page.check("no warning is on the page", not page.find(ERROR))


def main() -> None:
    missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = copy_notebook(folder)
        with jupyterlab(folder) as address, chromium(folder / ".chromium") as driver:
            page = Page(driver, places)
            try:
                page.open(address)
                trains(page)
                resumes(page, stops(page), folder / "run")
            except TimeoutException as error:
                page.shot("failed")
                sys.exit(f"not so: {error.msg} (see {SCREENSHOTS})")
    print(f"as it should be; screenshots are in {SCREENSHOTS}")


if __name__ == "__main__":
    main()
