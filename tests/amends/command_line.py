"""The type of the fixture `amends`: runs a command in this process and checks its exit code."""

from collections.abc import Callable

from typer.testing import Result

Amends = Callable[..., Result]
