"""The command line `amends`: one file per group of commands.

Knows how to parse, open, call and print; decides nothing that the server or the worker would have
to know. Commands import what they need when they run, so that `amends --help` answers at once.
Exit codes: 0 done, 1 an error that the red line names, 2 wrong usage, 130 stopped by Ctrl-C.
"""

from amends.cli.app import app

__all__ = ["app"]
