"""Devices: the device mesh, multi-process runs and compiled programs."""
