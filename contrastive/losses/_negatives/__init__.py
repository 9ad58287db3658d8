"""Selection of the negative pairs of a batch."""
