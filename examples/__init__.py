"""Codes over models that others trained, from their files to a service."""
