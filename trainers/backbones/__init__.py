"""CLIP: loading, towers, tokens, precision."""
