"""Configuration of the documentation: `make docs` builds it with Sphinx."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Weft"
author = "the Weft authors"

extensions = [
    "myst_parser",              # pages are Markdown
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",      # sections of docstrings, as numpy writes them
    "sphinx_copybutton",
    "package_pages",            # a section for each module of a package
    "short_names",              # links from `Graph` to weft.ir.Graph
    "component_signatures",     # of constructors of hardware components
    "plain_values",             # of constants and properties
]
exclude_patterns = ["_ext", "_static"]

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 4
myst_links_external_new_tab = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_mock_imports = ["litex", "migen"]   # large, and only modules that are documented need them
python_maximum_signature_line_length = 88
python_display_short_literal_types = True
add_module_names = False
toc_object_entries = False

napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False
napoleon_custom_sections = [
    ("Attributes", "params_style"),
    ("Members", "params_style"),  # the ports of a component
]

rst_prolog = """
.. role:: py(code)
   :language: python
"""

html_theme = "furo"
html_title = "Weft"
html_static_path = ["_static"]
html_css_files = ["weft.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
copybutton_exclude = ".linenos, .gp, .go"
highlight_language = "none"
