"""Reads the folders of runs and sweeps as plain data."""
