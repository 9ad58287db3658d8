"""Advice on the temperature of runs and sweeps."""
