"""The data pipeline: turns the rows of sources into batches, with one module per stage."""
