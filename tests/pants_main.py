"""The command `pants`, which starts without the scheduler that resolves plugins from a package index where none is named.

Pants makes that scheduler at each start, and solving its rules takes two thirds of the time.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from pants.bin import pants_loader
from pants.init import options_initializer
from pants.init.plugin_resolver import PluginResolver, ResolvedPluginDistributions

_make_scheduler = options_initializer.create_bootstrap_scheduler
_resolve = PluginResolver._resolve_plugins


class _UntilNeeded:
    """Stands for a scheduler until one is needed."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    @property
    def scheduler(self) -> Any:
        return _make_scheduler(*self._arguments).scheduler


def _resolve_what_is_named(self: PluginResolver, options_bootstrapper: Any, *arguments: Any) -> ResolvedPluginDistributions:
    if not options_bootstrapper.bootstrap_options.for_global_scope().plugins:
        return ResolvedPluginDistributions()
    return _resolve(self, options_bootstrapper, *arguments)


if __name__ == "__main__":
    patch.object(options_initializer, "create_bootstrap_scheduler", _UntilNeeded).start()
    patch.object(PluginResolver, "_resolve_plugins", _resolve_what_is_named).start()
    pants_loader.main()
