"""The command that nbconvert runs in place of LaTeX: notebook.tex -> notebook.typ -> notebook.pdf.

The "tex" file holds Pandoc Markdown, written by index.tex.j2; metadata.json lies beside it.
"""

import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

try:
    import pypandoc
    import typst
except ModuleNotFoundError as error:
    sys.exit(f"a PDF needs {error.name}: pip install pypandoc_binary typst")

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


def typst_to_pdf(document, target):
    """Compile, with a line on the first page that names the scripts which no font here has."""
    compiler = typst.Compiler(document)
    compiler.compile(output=target)
    if missing := scripts(without_glyph(compiler)):
        compiler.compile(output=target, sys_inputs={"missing": ", ".join(missing)})


def without_glyph(compiler):
    """The characters that no font has: where the PDF is to be accessible, Typst refuses them."""
    try:
        compiler.compile(format="pdf", pdf_standards=["ua-1"])
        return []
    except typst.TypstError as error:
        found = re.findall(r'the text `"(.+?)"` could not be displayed', error.diagnostic)
    escaped = re.compile(r"\\u\{([0-9a-f]+)\}")
    return [escaped.sub(lambda code: chr(int(code[1], 16)), text) for text in found]


def scripts(texts):
    """How Unicode names the characters' scripts, as "Thai"; a sign, such as an emoji, in full."""
    names = set()
    for character in set("".join(texts)):
        name = unicodedata.name(character, "").lower() or f"U+{ord(character):04X}"
        letter = unicodedata.category(character)[0] in "LM"
        names.add(name.split()[0].title().replace("Cjk", "CJK") if letter else name)
    return sorted(names)


def main(filename):
    """Convert, or exit with what pandoc or Typst says is wrong."""
    notebook_folder = os.environ.get("TEXINPUTS", "").split(os.pathsep)[0] or "."
    source = Path(filename)
    try:
        document = markdown_to_typst(source, notebook_folder)
        typst_to_pdf(document, str(source.with_suffix(".pdf")))
    except subprocess.CalledProcessError as error:
        sys.exit(f"pandoc: {error.stderr.strip()}")
    except typst.TypstError as error:
        sys.exit(f"Typst: {error.diagnostic}")


if __name__ == "__main__":
    main(sys.argv[1])
