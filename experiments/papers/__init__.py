"""Reproductions of papers as code, one module per paper."""
