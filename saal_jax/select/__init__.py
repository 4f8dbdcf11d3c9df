"""From scores or embeddings to the examples to label, and the first ones before there is a model."""
