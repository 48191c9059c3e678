"""Word-level language models on Penn Treebank; this is the map.

A module imports only from its own folder and from those above it in this list, which
`tests/test_imports.py` checks. Only `ptb.report` and `ptb.notebook` import matplotlib and seaborn.

    setting, recipes    every choice of one run; the values that we recommend
    parameters          the names that a notebook's parameters may have
    errors, paths       errors whose one line says all; the repository's folders
    data/               text → ids → rows → windows; Penn Treebank, the embedded corpus, your own
    models/             cells, layers, the Transformer, the loss, `LanguageModel`
    evaluation/         perplexity, generated text, analyses, comparing two models
    runs/               one run's folder and its files; finished runs as one table
    training/           schedules, optimisers, the training step, one run from start to end
    studies/            which runs make up a study, and where they are executed; trials
    report/             figures, tables, the PDFs, and publishing
    notebook, __main__  what notebooks call; the command line, `python -m ptb`

docs/architecture.md follows one value, `dropout`, through all of them.
"""
