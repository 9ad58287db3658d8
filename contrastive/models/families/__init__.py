"""Architectures of published checkpoints, one family per file."""
