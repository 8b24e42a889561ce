"""Root file systems: built in layers, each a deterministic cpio archive with an index beside it."""
