"""Constructions that show a limit and are not codes to deploy."""
