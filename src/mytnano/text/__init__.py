"""Text in, token ids out: corpora, their splits, tokenizers, and the encoded streams."""
