"""Text is text: a word of a corpus, a title or a name is shown with every character that it has."""

import re

# Where an element has these classes, JupyterLab's MathJax 3 (the first) and the MathJax 2 of
# nbconvert's HTML (the second) look for no mathematics; a character reference alone stops neither.
NO_MATHS = "mathjax_ignore tex2jax_ignore"

LATEX = {  # what pandoc's reader knows too: it drops \textasciigrave and \textbar
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\`{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    # in braces: two dashes would make a long one, \\ takes a star or an argument in brackets
    **{character: "{" + character + "}" for character in "-[]*,"},
}


def as_it_is(text: object) -> str:
    """text for HTML and for Markdown: no character of it is a sign."""
    return f'<span class="{NO_MATHS}">{references(text)}</span>'


def references(text: object) -> str:
    """text with character references for all of ASCII that is neither letter, digit nor space.

    It is one line: a line break would begin a paragraph, a list or a heading.
    """
    line = " ".join(str(text).split())
    return re.sub(r"[!-/:-@\[-`{-~]", lambda found: f"&#{ord(found[0])};", line)


def latex(text: object) -> str:
    """text for LaTeX, no character of it a command and none changed by a ligature."""
    return "".join(LATEX.get(character, character) for character in str(text))


def choice(value: object) -> str:
    """A setting's value as tables and sentences show it: 25, 0.25, 10⁻⁵, 2·10⁻⁴."""
    if not isinstance(value, float):
        return str(value)
    factor, e, power = f"{value:g}".partition("e")
    if not e:
        return factor
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if factor == "1" else f"{factor}·10{raised}"
