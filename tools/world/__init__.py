"""The small CLIP of the embedded world: how it is made, and how good it is."""
