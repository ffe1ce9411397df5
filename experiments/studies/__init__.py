"""Many codes on the same work, suites of figures, and their pictures."""
