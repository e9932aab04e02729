"""Features of frozen towers: the cache, and loaders that read it."""
