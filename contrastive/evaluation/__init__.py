"""Encoding, exact search and retrieval metrics."""
