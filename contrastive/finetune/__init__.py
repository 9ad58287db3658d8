"""FlagEmbedding's command line for fine-tuning embedders, on this library."""
