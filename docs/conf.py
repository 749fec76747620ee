"""Sphinx's settings; names and addresses come from settings.ini, which lies beside the folder of the pages."""

import shutil
import sys
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for anchors.py
parser = ConfigParser(delimiters=['='])
parser.read(Path(__file__).parents[1] / 'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']

project = cfg['title']
author = cfg['author']
copyright = cfg['copyright']
version = release = cfg['version']
language = 'en'
smartquotes = False  # what stands in quotes is often code

extensions = ['myst_nb', 'sphinx_copybutton', 'sphinx.ext.mathjax']
exclude_patterns = ['files', 'live/**']
html_theme = 'sphinx_book_theme'
html_title = project
html_baseurl = f'{cfg["doc_host"]}{cfg["doc_baseurl"]}/'
html_static_path = ['_static']
html_css_files = ['site.css']
html_favicon = '_static/favicon.svg'
html_copy_source = False
html_show_sourcelink = False
html_search_scorer = str(Path(__file__).with_name('search.js'))
html_use_index = html_domain_indices = False  # api/index.md lists every name
html_context = {'default_mode': 'auto'}
html_theme_options = {
    'repository_url': cfg['git_url'],
    'use_repository_button': True,
    'use_download_button': False,
    'home_page_in_toc': True,
    'navbar_persistent': [],
    'show_toc_level': 2,
    'search_bar_text': 'Search',
}

# The notebooks come executed; this only renders them.
nb_execution_mode = 'off'
nb_merge_streams = True
nb_render_markdown_format = 'myst'
nb_render_error_lexer = 'text'  # stored errors have no frames for the other lexer to read

myst_enable_extensions = ['dollarmath', 'colon_fence', 'deflist']
myst_heading_anchors = 4
myst_heading_slug_func = 'anchors.of_heading'
# Else the prices in "5 $ and 6 $" turn into maths.
myst_dmath_allow_space = False
myst_dmath_allow_digits = False

add_module_names = False
toc_object_entries_show_parents = 'hide'
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True
copybutton_exclude = '.linenos, .gp, .go'

# MathJax in one file, from a package: no other host is asked.
mathjax_path = 'tex-svg.js'


def add_mathjax(app):
    source = Path(find_spec('mathjax').submodule_search_locations[0]) / 'static' / 'mathjax' / 'es5' / 'tex-svg.js'
    shutil.copy(source, Path(app.srcdir) / '_static')


def setup(app):
    app.connect('builder-inited', add_mathjax)
