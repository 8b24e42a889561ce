"""The place for a command line in a compiled kernel."""

# Compiled in as CONFIG_CMDLINE; the link step writes an image's own command line over it. COMMAND_LINE_SIZE is 2048 on x86: the rest
# is left to the boot loader.
COMMAND_LINE_MARKER = b"@unikernel-command-line@".ljust(1024, b"@")
