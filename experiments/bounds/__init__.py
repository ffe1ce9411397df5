"""Constructions that show a limit and are no codes to deploy."""
