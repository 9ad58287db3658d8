"""One HTML page of runs and sweeps: folders are read, pictures made of them, a page written."""
