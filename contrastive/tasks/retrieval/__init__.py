"""Retrieval collections, exact search, BM25 and ranking metrics."""
