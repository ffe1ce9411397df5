"""The documentation's site: Markdown by MyST, notebooks as they are stored, the API from docstrings (`make docs`)."""

import os
import re
from pathlib import Path

import lcode

project, author, version = 'lcode', 'the lcode authors', lcode.__version__
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx_copybutton']
html_theme, html_title, html_show_copyright = 'furo', f'lcode {version}', False
smartquotes = False  # 'mse_base' is to be copied
python_maximum_signature_line_length = 100
copybutton_exclude = '.gp, .go'  # prompts, and what is printed

nb_execution_mode = 'off'
myst_heading_anchors = 4

# Docstrings are Google's, where single backticks hold a name, which becomes a link, or code, such as `f32[k, *S]`.
default_role = 'py:obj'
autodoc_member_order, autodoc_preserve_defaults = 'bysource', True
napoleon_use_param = napoleon_use_rtype = False
napoleon_custom_sections = [('Attributes', 'params_style')]

# Types of others are not documented here; those of lcode have to be found.
nitpicky = True
nitpick_ignore_regex = [('py:obj', '.*'), ('py:.*', r'(?!lcode\.).*')]

MARKUP = re.compile(r'(`[^`]*`)|([*|]|(?<=\w)_(?!\w))')
LINK = re.compile(r'(?<!!)\[([^\]]*)\]\((\.\./[^)#\s]*)[^)]*\)')


def escape_markup(app, what, name, obj, options, lines):
  """Escapes asterisks and the like outside backticks and examples: in our docstrings they are not reStructuredText."""
  paragraphs = re.split(r'(\n\s*\n)', '\n'.join(lines))
  lines[:] = ''.join(
      paragraph if paragraph.lstrip().startswith('>>>') else
      MARKUP.sub(lambda found: found[1] or '\\' + found[2], paragraph) for paragraph in paragraphs).split('\n')


def read_page(app, docname, source):
  """Links out of docs/ become plain text, since only docs/ is on the site; a page of tables alone gets a title."""
  folder = Path(app.srcdir, docname).parent

  def outside(link):
    target = Path(os.path.normpath(folder / link[2]))
    return link[1] if target.exists() and not target.is_relative_to(app.srcdir) else link[0]

  if not docname.startswith('notebooks/'):
    text = LINK.sub(outside, source[0])
    source[0] = text if re.search('^#', text, re.M) else f'# {Path(docname).name}\n\n{text}'


def setup(app):
  app.connect('autodoc-process-docstring', escape_markup, priority=400)  # before napoleon
  app.connect('source-read', read_page)
