"""The word counter's entry point."""

from web.server import serve

from wordcount.counting import count


def main() -> None:
    serve("wordcount", count)
