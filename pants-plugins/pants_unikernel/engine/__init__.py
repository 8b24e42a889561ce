"""The one place where this plugin calls the Pants engine.

Rules await the helpers of this package and nothing else. Pants' rule graph follows an `async def` helper that a rule awaits
in every version, so only the module behind this one knows how the engine is asked: `_by_get` for Pants 2.17 and its kin; a
`_by_name` beside it (for Pants 2.32 and newer, where `Get` is gone) takes its place here and no rule notices.
"""

from pants_unikernel.engine._by_get import (
    add_prefix,
    build_venv_pex,
    create_digest,
    digest_entries,
    download_file,
    environment_variables,
    file_content,
    find_binaries,
    find_interpreter,
    find_targets,
    hydrate_all_sources,
    hydrate_sources,
    merge_digests,
    package_all,
    packageable_field_sets,
    parse_addresses,
    remove_prefix,
    run_fallible_process,
    run_fallible_processes,
    run_process,
    source_files,
    source_files_of_each,
    source_roots,
    transitive_targets,
    transitive_targets_of_each,
    venv_pex_process,
)

__all__ = [
    "add_prefix",
    "build_venv_pex",
    "create_digest",
    "digest_entries",
    "download_file",
    "environment_variables",
    "file_content",
    "find_binaries",
    "find_interpreter",
    "find_targets",
    "hydrate_all_sources",
    "hydrate_sources",
    "merge_digests",
    "package_all",
    "packageable_field_sets",
    "parse_addresses",
    "remove_prefix",
    "run_fallible_process",
    "run_fallible_processes",
    "run_process",
    "source_files",
    "source_files_of_each",
    "source_roots",
    "transitive_targets",
    "transitive_targets_of_each",
    "venv_pex_process",
]
