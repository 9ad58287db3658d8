"""Policies that set the temperature, one per file."""
