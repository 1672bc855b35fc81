"""`python -m amends`: the command line."""

from amends.cli import app

app()
