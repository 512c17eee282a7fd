"""How Sphinx makes the site: ``make docs``."""

from caffe_compat import __version__

project = "caffe_compat"
author = "the caffe_compat authors"
copyright = "2026, the caffe_compat authors"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx"]
exclude_patterns = ["images"]
html_theme = "furo"
html_title = "caffe_compat"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Links to files of the repository, which are no pages of the site.
suppress_warnings = ["myst.xref_missing"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
intersphinx_mapping = {}
