"""The project as a wheel in an environment that has a PyTorch already: `make test-package`.

Needs the network, and minutes. Exits at the first thing that is not as it should be.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from ptb.paths import ROOT

PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
TRAIN = "train --corpus embedded --hidden 8 --embedding 8 --epochs 1 --batch-size 200"
VERSION = "from importlib.metadata import version; print(version('torch'))"
WITHOUT_EXTRAS = """
import sys
from importlib.util import find_spec
import ptb_utils
print("site-packages" in ptb_utils.__file__, *map(find_spec, ("pypandoc", "typst", "distributed")))
"""


def check(what: str, holds: bool) -> None:
    print(what, flush=True)
    if not holds:
        sys.exit(f"not so: {what}")


def main() -> None:
    pin = re.search(r"^torch==.+$", (ROOT / "requirements.txt").read_text(), re.M)[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
        own = {key: v for key, v in os.environ.items() if key not in ("PYTHONPATH", "PTB_DATA")}

        def run(*words, cwd=folder) -> subprocess.CompletedProcess:
            command = [str(python), *map(str, words)]
            done = subprocess.run(command, cwd=cwd, env=own, capture_output=True, text=True)
            print(done.stderr, file=sys.stderr, end="")
            return done

        subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
        check(f"{pin} is installed", run(*PIP, "install", pin).returncode == 0)
        torch = run("-c", VERSION).stdout
        run(*PIP, "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
        (wheel,) = folder.glob("*.whl")
        run(*PIP, "install", wheel)
        check(f"torch stays {torch.strip()}", run("-c", VERSION).stdout == torch)
        check("no two packages conflict", run("-m", "pip", "check").returncode == 0)
        found = run("-c", WITHOUT_EXTRAS).stdout.split()
        check("ptb_utils is imported without the extras", found == ["True", "None", "None", "None"])
        done = run("-m", "ptb", *TRAIN.split())
        runs = list(folder.glob("runs/demo/*/metrics.json"))
        check("a run is trained into the working folder", done.returncode == 0 and len(runs) == 1)
        nbformat.write(nbformat.v4.new_notebook(), folder / "empty.ipynb")
        html = run("-m", "jupyter", "nbconvert", "--to", "html", "empty.ipynb")
        check("nbconvert makes HTML without the extras", html.returncode == 0)
        pdf = run("-m", "jupyter", "nbconvert", "--to", "pdf", "empty.ipynb")
        check("and says what a PDF needs", "pip install pypandoc_binary typst" in pdf.stderr)
        lines = {
            folder: "study needs the repository's notebooks and records: use a clone\n",
            ROOT: "reports need pypandoc and typst: pip install pypandoc_binary typst\n",
        }
        for place, line in lines.items():
            done = run("-m", "ptb", "study", "report", "demo", cwd=place)
            check(f"in {place} a report is refused in one line", done.stderr == line)
    print("as it should be")


if __name__ == "__main__":
    main()
