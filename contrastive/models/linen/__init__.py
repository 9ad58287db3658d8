"""Flax modules and pure functions shared by the encoders."""
