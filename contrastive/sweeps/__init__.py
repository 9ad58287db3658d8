"""Sweeps: many runs, compiled as one program if they differ only in numbers."""
