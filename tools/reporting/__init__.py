"""One HTML page of results: what is collected, drawn and told, and its templates."""
