"""Pages of results: their tables say what the records say."""

import re
from pathlib import Path

import pytest

from experiments.studies import suites, summary

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / 'docs' / 'results'
PAGES = sorted(RESULTS.rglob('*.md'))
STALE = 'there are newer records: run python -m experiments.summary'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(RESULTS).as_posix())
def test_anchors_are_headings(page):
  for path, anchor in re.findall(r'\]\(([^)\s#:]*)#([^)\s]+)\)', page.read_text()):
    headings = re.findall(r'^#+ (.*)', (page.parent / path if path else page).read_text(), re.M)
    assert anchor in [re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings], anchor


def test_the_first_page_is_short_and_shows_what_the_records_say():
  text = (RESULTS / 'README.md').read_text()
  assert len(text.splitlines()) <= 120
  assert summary.table(summary.points(RESULTS)) in text, STALE
  assert summary.costs(RESULTS) in (RESULTS / 'costs.md').read_text(), STALE


@pytest.mark.parametrize('name', suites.SUITES)
def test_tables_of_suites_are_the_records(name):
  assert (RESULTS / f'{name}.md').read_text() == summary.suite(name, RESULTS), STALE


def test_every_page_of_results_is_linked_from_the_first():
  text = (RESULTS / 'README.md').read_text()
  for page in RESULTS.glob('*.md'):
    assert page.name in text or page.name == 'README.md', f'{page.name} cannot be found'
