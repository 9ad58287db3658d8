"""The `finetune` command, which accepts the flags of FlagEmbedding's embedder fine-tuning."""
