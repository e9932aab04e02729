"""The error that tells a user about a mistake in a method's settings."""


class MethodError(ValueError):
    """A mistake of the user in a method's settings.

    The message is complete: it says what is wrong, where, and what to write instead.
    It is shown without a traceback.
    """
