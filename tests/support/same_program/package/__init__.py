"""A package that is run with `-m`."""

NAME = __name__
