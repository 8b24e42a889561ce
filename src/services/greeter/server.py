"""The greeter's entry point."""

from web.server import serve

from greeter.greeting import greet


def main() -> None:
    serve("greeter", greet)
