"""`cc_binary` with the host's compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from textwrap import dedent

import pytest
from elftools.elf.elffile import ELFFile
from pants.backend.experimental.cc import register as cc_register
from pants.backend.project_info import dependents
from pants.backend.project_info.dependents import Dependents, DependentsRequest
from pants.core.goals import package, run
from pants.core.goals.package import BuiltPackage
from pants.core.goals.run import RunRequest
from pants.core.target_types import ArchiveFieldSet, ArchiveTarget, FilesGeneratorTarget
from pants.core.target_types import rules as core_target_types_rules
from pants.core.util_rules import archive, source_files, system_binaries
from pants.engine.addresses import Address
from pants.engine.fs import Digest, DigestContents, FileContent
from pants.engine.internals.scheduler import ExecutionError
from pants.engine.rules import collect_rules, rule
from pants.engine.target import FieldSet
from pants.testutil.rule_runner import QueryRule, RuleRunner
from pants.util.frozendict import FrozenDict

from pants_unikernel import engine
from pants_unikernel.cc import register
from pants_unikernel.cc.compile import compile_objects
from pants_unikernel.cc.link import LinkOptions, link_binary
from pants_unikernel.cc.package_binary import CCBinaryFieldSet
from pants_unikernel.cc.toolchain import HostCCToolchain
from pants_unikernel.package_types import AnyPackageFieldSet

PROJECT = {
    "app/BUILD": dedent(
        """\
        cc_sources(name="src")
        cc_binary(name="bin", dependencies=[":src", "text:src"])
        """
    ),
    "app/main.c": dedent(
        """\
        #include <stdio.h>
        #include "local.h"
        #include "text/text.h"

        int main(int argc, char **argv) {
            for (int i = 1; i < argc; i++) puts(shout(argv[i]));
            return STATUS;
        }
        """
    ),
    "app/local.h": "#define STATUS 7\n",
    "text/BUILD": 'cc_sources(name="src")\n',
    "text/text.h": "char *shout(char *text);\n",
    "text/text.c": dedent(
        """\
        #include "text.h"
        #include <ctype.h>

        char *shout(char *text) {
            for (char *c = text; *c; c++) *c = toupper(*c);
            return text;
        }
        """
    ),
}


@dataclass(frozen=True)
class KernelRequest:
    address: Address


@dataclass(frozen=True)
class Kernel:
    digest: Digest


@rule
async def build_kernel(request: KernelRequest, host: HostCCToolchain) -> Kernel:
    """Compiles and links as the rules of a library OS do: with their own headers, start code and flags."""
    files = {
        "include/stdio.h": "void put(const char *text);\n",
        "link.ld": "ENTRY(main) SECTIONS { . = 1M; .text : { *(.text*) } . = ALIGN(4K); .data : { *(.*data*) } }\n",
    }
    kit = await engine.create_digest(FileContent(path, content.encode()) for path, content in files.items())
    toolchain = replace(
        host.toolchain,
        c_flags=("-O2", "-ffreestanding", "-fno-pie", "-nostdinc", "-isystem", "kit/include"),
        link_flags=("-nostdlib", "-static", "-Wl,-z,noexecstack", "-T", "kit/link.ld"),
        immutable_inputs=FrozenDict({"kit": kit}),
        probe=None,
    )
    transitive = await engine.transitive_targets([request.address])
    objects = await compile_objects(transitive.closure, toolchain, needed_by="the kernel")
    options = LinkOptions(flags=("-Wl,--gc-sections",))
    linked = await link_binary(objects, toolchain, options, output_path="kernel.elf", needed_by="the kernel")
    return Kernel(linked.digest)


def make_rule_runner(options: Iterable[str] = ()) -> RuleRunner:
    rule_runner = RuleRunner(
        rules=[
            *collect_rules(),
            *register.rules(),
            # Both backends may be enabled.
            *cc_register.rules(),
            *archive.rules(),
            *core_target_types_rules(),
            *dependents.rules(),
            *package.rules(),
            *run.rules(),
            *source_files.rules(),
            *system_binaries.rules(),
            QueryRule(BuiltPackage, [AnyPackageFieldSet]),
            QueryRule(BuiltPackage, [ArchiveFieldSet]),
            QueryRule(Dependents, [DependentsRequest]),
            QueryRule(HostCCToolchain, []),
            QueryRule(Kernel, [KernelRequest]),
            QueryRule(RunRequest, [CCBinaryFieldSet]),
        ],
        target_types=[*register.target_types(), ArchiveTarget, FilesGeneratorTarget],
        # Or a test would find what an earlier run of it has left in the user's cache.
        isolated_local_store=True,
    )
    rule_runner.set_options(["--source-root-patterns=/", *options], env_inherit={"PATH"})
    return rule_runner


@pytest.fixture
def rule_runner() -> RuleRunner:
    return make_rule_runner()


def build(
    rule_runner: RuleRunner, name: str = "bin", directory: str = "app", field_set: type[FieldSet] = AnyPackageFieldSet
) -> FileContent:
    target = rule_runner.get_target(Address(directory, target_name=name))
    built = rule_runner.request(BuiltPackage, [field_set.create(target)])
    (content,) = rule_runner.request(DigestContents, [built.digest])
    assert built.artifacts[0].relpath == content.path
    return content


def failure(rule_runner: RuleRunner, name: str = "bin") -> str:
    with pytest.raises(ExecutionError) as error:
        build(rule_runner, name)
    return str(error.value)


def execute(tmp_path: Path, binary: FileContent, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "binary"
    path.write_bytes(binary.content)
    path.chmod(0o755)
    return subprocess.run([str(path), *arguments], stdout=subprocess.PIPE, text=True)


def elf(binary: FileContent) -> ELFFile:
    return ELFFile(BytesIO(binary.content))


def processes(rule_runner: RuleRunner) -> int:
    """How many processes were started so far, rather than found in a cache."""
    return rule_runner.scheduler.get_metrics().get("local_execution_requests", 0)


# --- what is built ------------------------------------------------------------------------------------------------


def test_static_binary(rule_runner: RuleRunner, tmp_path: Path) -> None:
    rule_runner.write_files(PROJECT)
    binary = build(rule_runner)
    assert binary.path == "app/bin" and binary.is_executable
    result = execute(tmp_path, binary, "hello", "world")
    assert (result.stdout, result.returncode) == ("HELLO\nWORLD\n", 7)

    file = elf(binary)
    assert file["e_type"] == "ET_EXEC"
    assert not {"PT_INTERP", "PT_DYNAMIC"} & {segment["p_type"] for segment in file.iter_segments()}
    # For whoever makes an image of it: symbols, debug information and a build ID to find it by.
    assert {".symtab", ".debug_info", ".note.gnu.build-id"} <= {section.name for section in file.iter_sections()}
    assert rule_runner.build_root.encode() not in binary.content
    assert b"pants-sandbox" not in binary.content
    directories = {unit.get_top_DIE().attributes["DW_AT_comp_dir"].value for unit in file.get_dwarf_info().iter_CUs()}
    assert directories == {b"."}


@pytest.mark.parametrize("link,interpreter", [("static-pie", False), ("dynamic", True)])
def test_position_independent_binaries(rule_runner: RuleRunner, tmp_path: Path, link: str, interpreter: bool) -> None:
    build_file = f'cc_sources(name="src")\ncc_binary(name="bin", dependencies=[":src", "text:src"], link="{link}")\n'
    rule_runner.write_files({**PROJECT, "app/BUILD": build_file})
    binary = build(rule_runner)
    file = elf(binary)
    assert file["e_type"] == "ET_DYN"
    assert ("PT_INTERP" in {segment["p_type"] for segment in file.iter_segments()}) is interpreter
    needed = [tag.needed for tag in file.get_section_by_name(".dynamic").iter_tags() if tag.entry.d_tag == "DT_NEEDED"]
    assert any(name.startswith("libc.so") for name in needed) is interpreter
    assert execute(tmp_path, binary, "x").stdout == "X\n"


def test_unknown_link_mode(rule_runner: RuleRunner) -> None:
    rule_runner.write_files({"app/BUILD": 'cc_binary(name="bin", link="shared")'})
    with pytest.raises(ExecutionError, match="'link' field in target app:bin must be one of .*'static-pie'"):
        rule_runner.get_target(Address("app", target_name="bin"))


def test_c_and_cxx_together(rule_runner: RuleRunner, tmp_path: Path) -> None:
    rule_runner.write_files(
        {
            "app/BUILD": dedent(
                """\
                cc_sources(name="src")
                cc_binary(
                    name="bin",
                    dependencies=[":src"],
                    c_compile_flags=["-std=gnu17"],
                    cxx_compile_flags=["-std=c++17"],
                    definitions=["ANSWER=42"],
                    libraries=["m"],
                    output_path="tools/answer",
                )
                """
            ),
            # Two sources with one name but for the extension, and a third one in another directory.
            "app/x.cpp": dedent(
                """\
                #include <cmath>
                #include <iostream>
                #include "x.h"
                namespace { struct Initialized { int value = answer(); } instance; }
                int main(int argc, char **) {
                    std::cout << instance.value << " " << __cplusplus << " " << std::cbrt(argc) << " " << __FILE__;
                }
                """
            ),
            "app/x.c": '#include "x.h"\nint other(void);\nint answer(void) { return ANSWER + other(); }\n',
            "app/x.h": '#ifdef __cplusplus\nextern "C"\n#endif\nint answer(void);\n',
            "app/deeper/BUILD": 'cc_sources(name="src")',
            "app/deeper/x.c": "int other(void) { return __STDC_VERSION__ == 201710L && __DATE__[4] == ' ' ? 1 : 0; }\n",
        }
    )
    build_file = Path(rule_runner.build_root, "app/BUILD").read_text()
    rule_runner.write_files({"app/BUILD": build_file.replace('[":src"]', '[":src", "app/deeper:src"]')})
    binary = build(rule_runner)
    assert binary.path == "tools/answer"
    assert execute(tmp_path, binary).stdout == "43 201703 1 app/x.cpp"


def test_source_roots_and_data(tmp_path: Path) -> None:
    rule_runner = make_rule_runner(["--source-root-patterns=['/src', '/third_party']"])
    rule_runner.write_files(
        {
            "src/app/BUILD": dedent(
                """\
                files(name="data", sources=["*.txt", "*.ld"])
                cc_sources(name="src", dependencies=[":data"])
                cc_binary(name="bin", dependencies=[":src", "third_party/lib"], link_flags=["-Wl,-T,src/app/extra.ld"])
                """
            ),
            "src/app/main.c": dedent(
                """\
                #include <stdio.h>
                #include "lib/lib.h"
                __asm__(".section .rodata\\nmessage: .incbin \\"src/app/message.txt\\"\\n.byte 0\\n.text");
                extern const char message[], from_script[];
                int main(void) { printf("%s %d %lx\\n", message, lib(), (long)from_script); return 0; }
                """
            ),
            "src/app/message.txt": "hello",
            "src/app/extra.ld": "from_script = 0x1234;\nINSERT AFTER .text;\n",
            "third_party/lib/BUILD": "cc_sources()",
            "third_party/lib/lib.h": '#include "lib/detail.h"\nint lib(void);\n',
            "third_party/lib/detail.h": "#define DETAIL 5\n",
            "third_party/lib/lib.c": '#include "lib.h"\nint lib(void) { return DETAIL; }\n',
        }
    )
    assert execute(tmp_path, build(rule_runner, directory="src/app")).stdout == "hello 5 1234\n"


def test_run_request(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(PROJECT)
    target = rule_runner.get_target(Address("app", target_name="bin"))
    request = rule_runner.request(RunRequest, [CCBinaryFieldSet.create(target)])
    assert request.args == ("{chroot}/app/bin",)
    (binary,) = rule_runner.request(DigestContents, [request.digest])
    assert binary.path == "app/bin" and binary.is_executable


def test_archive_of_binaries(rule_runner: RuleRunner) -> None:
    build_file = PROJECT["app/BUILD"] + 'archive(name="zip", packages=[":bin"], format="tar")\n'
    rule_runner.write_files({**PROJECT, "app/BUILD": build_file})
    assert b"app/bin" in build(rule_runner, "zip", field_set=ArchiveFieldSet).content


def test_another_toolchain(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(
        {
            "kernel/BUILD": "cc_sources()",
            "kernel/main.c": '#include <stdio.h>\nint main(void) { put("hello"); return 0; }\n',
            "kernel/put.c": "#include <stdio.h>\nvoid put(const char *text) { *(volatile char *)0xb8000 = *text; }\n",
        }
    )
    built = rule_runner.request(Kernel, [KernelRequest(Address("kernel"))])
    (kernel,) = rule_runner.request(DigestContents, [built.digest])
    assert kernel.path == "kernel.elf"
    assert 0x100000 <= elf(kernel)["e_entry"] < 0x101000


# --- the cache ----------------------------------------------------------------------------------------------------


def test_only_what_changed_is_compiled(rule_runner: RuleRunner) -> None:
    def processes_for(changes: dict[str, str]) -> int:
        before = processes(rule_runner)
        rule_runner.write_files(changes)
        build(rule_runner)
        return processes(rule_runner) - before

    assert processes_for(PROJECT) >= 3
    assert processes_for({}) == 0
    # One unit and the link.
    assert processes_for({"text/text.c": PROJECT["text/text.c"] + "int unused_variable;\n"}) == 2
    # A header of that unit.
    assert processes_for({"app/local.h": "#define STATUS 8\n"}) == 2
    # A header of both units, which become the same objects: nothing to link.
    assert processes_for({"text/text.h": PROJECT["text/text.h"] + "void unused(void);\n"}) == 2
    # A source with nobody's dependency on it.
    assert processes_for({"other/other.c": "int x;"}) == 0


def test_same_bytes_from_any_directory() -> None:
    project = dict(PROJECT)
    project["app/BUILD"] = dedent(
        """\
        cc_sources(name="src")
        cc_binary(name="bin", dependencies=[":src", "text:src"])
        cc_binary(name="lto", dependencies=[":src", "text:src"], compile_flags=["-flto"], link_flags=["-flto"])
        cc_binary(name="dynamic", dependencies=[":src", "text:src"], link="dynamic")
        """
    )
    project["app/extra.cc"] = dedent(
        """\
        #include <string>
        namespace { std::string built = __FILE__ __DATE__ __TIME__; }
        extern "C" const char *where() { return built.c_str(); }
        """
    )
    first, second = make_rule_runner(), make_rule_runner()
    assert first.build_root != second.build_root
    first.write_files(project)
    second.write_files(project)
    for name in ("bin", "lto", "dynamic"):
        assert build(first, name).content == build(second, name).content
    assert processes(second) == processes(first) > 0


def test_toolchain_is_in_the_key(tmp_path: Path) -> None:
    wrapper = tmp_path / "gcc"

    def fingerprint(version: str) -> str:
        real = shutil.which("gcc")
        wrapper.write_text(
            f"#!{sys.executable}\nimport os, sys\n"
            f"print({version!r}) if '--version' in sys.argv else os.execv({real!r}, [{real!r}, *sys.argv[1:]])\n"
        )
        wrapper.chmod(0o755)
        rule_runner = make_rule_runner([f"--cc-search-paths=['{tmp_path}', '<PATH>']", "--cc-c-executable=['gcc']"])
        toolchain = rule_runner.request(HostCCToolchain, []).toolchain
        assert toolchain.c_driver.path == str(wrapper)
        assert toolchain.process_env()["CC_TOOLCHAIN_FINGERPRINT"] == toolchain.fingerprint
        return toolchain.fingerprint

    assert fingerprint("1.0") == fingerprint("1.0") != fingerprint("1.1")


def test_headers_bring_the_binary(rule_runner: RuleRunner) -> None:
    rule_runner.write_files(PROJECT)
    header = Address("text", target_name="src", relative_file_path="text.h")
    found = rule_runner.request(Dependents, [DependentsRequest([header], transitive=True, include_roots=False)])
    assert Address("app", target_name="bin") in found


# --- errors -------------------------------------------------------------------------------------------------------


def test_compile_error(rule_runner: RuleRunner) -> None:
    files = {"app/main.c": "int main(void) { return oops; }\n", "text/text.c": '#include "../nowhere.h"\n'}
    rule_runner.write_files({**PROJECT, **files})
    message = failure(rule_runner)
    assert "CompileError: 2 sources of app:bin can't be compiled.\n\napp/main.c:src:\napp/main.c: In function" in message
    assert "app/main.c:1:25: error: 'oops' undeclared" in message
    assert "\n\ntext/text.c:src:\ntext/text.c:1:10: fatal error: ../nowhere.h: No such file" in message
    assert "Not found: ../nowhere.h." in message


def test_warnings_are_shown(rule_runner: RuleRunner, caplog: pytest.LogCaptureFixture) -> None:
    rule_runner.write_files({**PROJECT, "app/extra.c": "static int unused;\n"})
    build(rule_runner)
    (record,) = (record for record in caplog.records if record.name.startswith("pants_unikernel"))
    assert record.getMessage().startswith("app/extra.c:src:\napp/extra.c:1:12: warning: 'unused' defined but not used")


def test_undefined_symbols(rule_runner: RuleRunner) -> None:
    build_file = 'cc_sources(name="src")\ncc_binary(name="bin", dependencies=[":src"])\n'
    rule_runner.write_files({**PROJECT, "app/BUILD": build_file})
    message = failure(rule_runner)
    assert "LinkError: app:bin can't be linked.\n\n1 symbol used but not defined:\n" in message
    assert "\n  shout  needed by app/main.c (main)\n" in message
    assert "undefined reference to `shout'" in message


def test_missing_library(rule_runner: RuleRunner) -> None:
    build_file = PROJECT["app/BUILD"].replace('name="bin"', 'name="bin", libraries=["nowhere"]')
    rule_runner.write_files({**PROJECT, "app/BUILD": build_file})
    assert "Not found for this way of linking: libnowhere." in failure(rule_runner)


def test_nothing_to_compile(rule_runner: RuleRunner) -> None:
    build_file = 'cc_sources(name="headers", sources=["*.h"])\ncc_binary(name="bin", dependencies=[":headers"])\n'
    rule_runner.write_files({**PROJECT, "app/BUILD": build_file})
    assert "The `cc_binary` target app:bin has no C or C++ source in its transitive dependencies" in failure(rule_runner)


def test_no_compiler() -> None:
    options = ["--cc-c-executable=['no-such-cc', 'gcc-0']", "--cc-search-paths=['/usr/bin', '/opt/nothing']"]
    rule_runner = make_rule_runner(options)
    rule_runner.write_files(PROJECT)
    message = failure(rule_runner)
    assert "app:bin can't be built: there is no C compiler. Looked for `no-such-cc` and `gcc-0`" in message
    assert "in /usr/bin, /opt/nothing" in message


def test_cxx_compiler_is_for_cxx_only() -> None:
    rule_runner = make_rule_runner(["--cc-cxx-executable=['no-such-c++', 'g++-0']"])
    rule_runner.write_files(PROJECT)
    assert build(rule_runner).is_executable
    rule_runner.write_files({"app/more.cc": ""})
    assert "there is no C++ compiler. Looked for `no-such-c++` and `g++-0`" in failure(rule_runner)
