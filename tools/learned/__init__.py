"""What a run has learned, looked at: the gate, and the words of a context."""
