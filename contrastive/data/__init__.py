"""Sources, tokenisation, packing and batches by step; NumPy only."""
