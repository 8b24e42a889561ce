"""Signs that an application is a service: it answers on a port, or serves a web application.

All modules here are plain Python, without Pants: each one has its signs as data, and a function
that finds them in one file's content. Nothing is imported, compiled or run to find them.
`util_rules/services.py` weighs the signs of one target's files.
"""
