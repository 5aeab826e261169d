"""Sphinx configuration: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
import warnings
from pathlib import Path
from typing import ClassVar

from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.ext.autosummary import Autosummary
from sphinx.ext.autosummary.generate import generate_autosummary_docs

import glm

HERE = Path(__file__).parent

# It still calls what Sphinx 10 will drop, once a docstring; the log drowns in it.
warnings.filterwarnings("ignore", module=r"sphinx_autodoc_typehints")

project = "glm"
author = "The glm developers"
copyright = f"2026, {author}"
version = release = glm.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
templates_path = ["_templates"]
exclude_patterns = [
    "_build",
    "_templates",
    "**/.ipynb_checkpoints",
    "**/jupyter_execute",
    "**/.jupyter_cache",
]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are kept with their outputs, and are run by the checks

autosummary_generate = False  # `public-api` below writes the pages
autodoc_inherit_docstrings = False  # what a class takes over from Lightning is told there
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
typehints_defaults = "braces"
always_use_bars_union = True
# Types that only a type checker imports stay names; nothing is imported for them.
suppress_warnings = [
    "sphinx_autodoc_typehints.forward_reference",
    "sphinx_autodoc_typehints.guarded_import",
]

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

# A build opens no connection, unless it is the published one, which links to other projects.
intersphinx_mapping = {}
if os.environ.get("READTHEDOCS"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

html_theme = "sphinx_book_theme"
html_title = f"glm {release}"
html_static_path = []
html_theme_options = {"show_toc_level": 2, "show_navbar_depth": 1}

STUBS = HERE / "api" / "generated"


def _documented(module: str) -> list[str]:
    """The functions and classes of ``__all__``: what a page of its own can be made for."""
    namespace = importlib.import_module(module)
    return [f"{module}.{name}" for name in namespace.__all__ if callable(getattr(namespace, name))]


class PublicApi(Autosummary):
    """``.. public-api:: glm.tl``: an autosummary table of ``glm.tl.__all__``."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar = {"nosignatures": directives.flag}

    def run(self):
        self.options["toctree"] = "generated"
        self.options.setdefault("nosignatures", None)
        names = _documented(self.arguments[0])
        self.content = StringList([f"~{name}" for name in names], source=__file__)
        return super().run()


def _write_stubs(app: Sphinx) -> None:
    """One page for each public function and class; last build's pages are dropped first."""
    shutil.rmtree(STUBS, ignore_errors=True)
    STUBS.mkdir(parents=True)
    modules = [name for name in glm.__all__ if inspect.ismodule(getattr(glm, name))]
    names = [name for module in modules for name in _documented(f"glm.{module}")]
    listing = STUBS / "listing.txt"
    table = "\n".join(f"   {name}" for name in names)
    listing.write_text(f".. autosummary::\n   :toctree:\n\n{table}\n", encoding="utf-8")
    generate_autosummary_docs([str(listing)], output_dir=STUBS, app=app, encoding="utf-8")
    listing.unlink()


def _copy_tutorials(app: Sphinx) -> None:
    """Notebooks live beside the documentation; Sphinx reads below its own folder only."""
    copies = HERE / "tutorials"
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir()
    for notebook in sorted((HERE.parent / "tutorials").glob("*.ipynb")):
        shutil.copy(notebook, copies)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("public-api", PublicApi)
    app.connect("builder-inited", _copy_tutorials)
    app.connect("builder-inited", _write_stubs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
