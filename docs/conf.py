"""Settings of Sphinx; `nox -s docs` builds the pages into `docs/_build`."""

import os
import re

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras_losskit

project = "keras_losskit"
author = "The keras_losskit authors"
copyright = author
version = release = keras_losskit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"keras_losskit {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
# The class' own docstring; what `__init__` takes is in its `Args`.
autoclass_content = "class"
# What Keras wrote is documented there.
autodoc_inherit_docstrings = False
# What each argument takes is in its `Args`, in words.
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False


def code_spans(app, what, name, obj, options, lines):
    """Turn the Markdown code spans of docstrings into literals."""
    text = re.sub(
        r"(?<!`)`([^`]+)`(?!`)(\w?)",
        lambda found: f"``{found[1]}``" + (f"\\ {found[2]}" * bool(found[2])),
        "\n".join(lines),
    )
    lines[:] = text.split("\n")


def not_ours(app, what, name, obj, skip, options):
    """Leave out what the package passes on from Keras."""
    module = getattr(obj, "__module__", None) or ""
    return skip or module.partition(".")[0] == "keras"


def setup(app):
    """Connect the above to autodoc."""
    # Before napoleon, which splits at colons outside of literals.
    app.connect("autodoc-process-docstring", code_spans, priority=400)
    app.connect("autodoc-skip-member", not_ours)
