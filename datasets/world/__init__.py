"""The embedded world: drawn objects, their styles, and what captions say about them."""
