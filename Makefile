# Each target is one or two plain commands; docs/contributing.md has the most used for those without
# make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo study records report architectures demo-architectures publish copies site student lab test \
	test-browser test-kit test-package torture bench bench-reading
setup: .venv/installed  ## UV=1 installs by uv

# The three notebooks are those that are installed as copies (pyproject.toml).
.venv/installed: requirements.txt pyproject.toml $(wildcard report/template/* report/template/*/*) \
		notebooks/report.ipynb notebooks/architectures.ipynb notebooks/cells.ipynb
	@$(PYTHON) -c "import sys; v = sys.version_info; v >= (3, 11) or sys.exit('Python 3.11 or newer is needed, this is %d.%d: make setup PYTHON=python3.12' % v[:2])"
	$(PYTHON) -m venv .venv
	$(if $(UV),uv pip install --python .venv,$(BIN)/python -m pip install --disable-pip-version-check) --requirement requirements.txt
	@touch $@

demo: setup  ## four small runs on the embedded corpus, then their report
	$(BIN)/python -m ptb study run demo
	$(BIN)/python -m ptb study report demo

study: setup  ## the exercise's four runs on Penn Treebank; SCHEDULER=tcp://… for a Dask cluster, DEVICE=cuda for a GPU
	$(BIN)/python -m ptb study run dropout $(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(if $(DEVICE),--device $(DEVICE))

records: setup  ## the same four settings by their long recipes
	$(BIN)/python -m ptb study run long $(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(if $(DEVICE),--device $(DEVICE))

report: setup  ## the PDF report of your own study
	$(BIN)/python -m ptb study report dropout

demo-architectures: setup  ## the second exercise's settings, scaled, on the embedded corpus, and their report
	$(BIN)/python -m ptb study run demo-architectures
	$(BIN)/python -m ptb study report demo-architectures

architectures: setup  ## the second exercise on Penn Treebank: days on a CPU; SCALE=0.25, ONLY="3.1d 3.2a", DEVICE=cuda, PRECISION=tf32, WORKERS=1
	$(BIN)/python -m ptb study run architectures $(if $(SCALE),--scale $(SCALE)) $(if $(ONLY),--only $(ONLY)) $(if $(DEVICE),--device $(DEVICE)) $(if $(PRECISION),--precision $(PRECISION)) $(if $(WORKERS),--workers $(WORKERS))
	$(BIN)/python -m ptb study report architectures

publish: setup  ## your finished study becomes the published one
	$(BIN)/python -m ptb study publish dropout

copies: setup  ## executed copies of the notebooks, to be read: report/notebooks
	$(BIN)/python -m ptb copies

site: setup  ## the executed notebooks and the docs as HTML pages: site/index.html
	$(BIN)/python -m ptb site

student: setup  ## the assignments as they are handed out, a course folder for nbgrader: assignments/course
	$(BIN)/python -m ptb student

bench: setup  ## what this machine takes, in ten minutes: report/benchmark.json; QUICK=1 for the step alone, in two
	$(BIN)/python benchmarks/throughput.py

bench-reading: setup  ## memory of reading a text and of training on it: report/reading.json
	$(BIN)/python benchmarks/reading.py

# Copies that are there already stay as you left them: delete one to have it anew.
lab: setup  ## JupyterLab, in copies of the notebooks (mine/), so that notebooks/ stays as it is
	@mkdir -p mine
	@for notebook in notebooks/*.ipynb; do \
		test -e mine/$${notebook#notebooks/} || cp $$notebook mine/; done
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/mine/lesson.ipynb

test: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

test-browser: setup  ## train.ipynb in JupyterLab in a headless Chromium: minutes; apt-get brings the browser
	@{ command -v chromium && command -v chromedriver; } >/dev/null \
		|| { apt-get update && apt-get install --yes chromium chromium-driver; } \
		|| { echo "test-browser needs a browser: sudo apt-get install chromium chromium-driver" >&2; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement tests/browser-requirements.txt
	$(BIN)/python tests/browser.py

test-kit: setup  ## the assignments generated and graded by nbgrader, right, wrong and forbidden: minutes
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement assignments/requirements.txt
	$(BIN)/python tests/kit.py

test-package: setup  ## the wheel in an empty environment that has a torch: minutes
	$(BIN)/python tests/package.py

N ?= 100
torture: setup  ## N tiny runs, killed at random moments until they end, against runs never killed
	$(BIN)/python tests/torture.py $(N)
