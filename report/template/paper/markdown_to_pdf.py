"""The command that nbconvert runs in place of LaTeX: notebook.tex -> notebook.typ -> notebook.pdf.

The "tex" file holds Pandoc Markdown, written by index.tex.j2; metadata.json lies beside it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pypandoc
import typst

HERE = Path(__file__).resolve().parent
MARKDOWN = "markdown" + "".join(  # as near to Jupyter's as pandoc's comes
    (
        "-yaml_metadata_block",
        "-citations",
        "-subscript",
        "-fancy_lists",
        "-example_lists",
        "-blank_before_header",
        "-blank_before_blockquote",
        "+lists_without_preceding_blankline",
        "+autolink_bare_uris",
        "+tex_math_single_backslash",
    )
)


def markdown_to_typst(source, notebook_folder):
    """Write the Typst file of `source`, with the images it shows; return its path."""
    target = source.with_suffix(".typ")
    subprocess.run(
        [
            pypandoc.get_pandoc_path(), str(source), "--output", str(target),
            "--from", MARKDOWN, "--to", "typst", "--metadata-file", "metadata.json",
            "--standalone", "--template", str(HERE / "paper.typ"),
            "--lua-filter", str(HERE / "paper.lua"), "--syntax-highlighting", "idiomatic",
            "--resource-path", os.pathsep.join([".", notebook_folder]), "--extract-media", "media",
            "--fail-if-warnings",
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return target


def main(filename):
    """Convert, or exit with what pandoc or Typst says is wrong."""
    notebook_folder = os.environ.get("TEXINPUTS", "").split(os.pathsep)[0] or "."
    source = Path(filename)
    try:
        document = markdown_to_typst(source, notebook_folder)
        typst.Compiler(document, ignore_system_fonts=True).compile(
            output=str(source.with_suffix(".pdf"))
        )
    except subprocess.CalledProcessError as error:
        sys.exit(f"pandoc: {error.stderr.strip()}")
    except typst.TypstError as error:
        sys.exit(f"Typst: {error.diagnostic}")


if __name__ == "__main__":
    main(sys.argv[1])
