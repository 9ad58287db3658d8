"""Import and export of model folders."""
