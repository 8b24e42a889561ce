"""The greeter's entry point."""

from greeter.greeting import greet
from web.server import serve


def main() -> None:
    serve("greeter", greet)
