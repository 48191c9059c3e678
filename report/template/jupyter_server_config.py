"""JupyterLab's File > Save and Export Notebook As > PDF, like `jupyter nbconvert --to pdf`."""

load_subconfig("jupyter_nbconvert_config.py")  # noqa: F821

from paper_preprocessors import ExecuteOnExport  # noqa: E402

c = get_config()  # noqa: F821
for exporter in (c.HTMLExporter, c.LatexExporter, c.PDFExporter):
    exporter.default_preprocessors.remove(ExecuteOnExport)  # a notebook is exported as it is shown
