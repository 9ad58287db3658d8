"""Experiment files: a quickstart, and results of papers as code."""
