"""The data set of functions and their docstrings, built from the installed Python."""
