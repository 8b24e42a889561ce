"""A Pants backend that links applications with a library OS into bootable unikernel images."""
