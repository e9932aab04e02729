"""What goes wrong by a user's mistake in the data."""


class DatasetError(ValueError):
    """A mistake in the data or its settings; the message is complete, shown without traceback."""
