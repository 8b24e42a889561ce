"""The unikernel toolkit: root file systems, library OS kits, the final link, inspection and booting of unikernel images.

A plain Python package: it knows nothing of Pants, which runs it in sandboxes, and serves as the command `unikernel` as well.
"""

__version__ = "0.1.0"
