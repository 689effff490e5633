"""The two roots of every error a person can cause or meet."""


class ConfigError(Exception):
    """What was asked for cannot be done: stops the program with exit code 2.

    The text is one sentence that names the file, key or value and says what to do. Bundle errors are ConfigErrors.
    """


class StreamError(Exception):
    """Something in the flow of lines failed: counted and reported; the loop goes on.

    The text is one sentence with the numbers in it (bytes, lines, seconds).
    """
