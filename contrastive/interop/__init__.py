"""Folders of other libraries, in and out."""
