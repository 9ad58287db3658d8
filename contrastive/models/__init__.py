"""Flax encoders, pooling and the embedder. Only this room knows Flax."""
