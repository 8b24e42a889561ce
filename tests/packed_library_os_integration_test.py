"""Images that are packed with a library OS's kernel or by its tool. The kernel here is a few lines of the test's own, for QEMU's multiboot:
it shows its command line, looks into the root file system beside it, and says a status. Real kernels: real_library_os_integration_test.py.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import stat
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pants_project import PYTHON_BACKEND, PantsProject, completed_processes, plugin_configuration
from unikernel.image.attachment import ROOTFS_SECTION, read_section
from unikernel.image.debug_file import check_debug_file, extract_programs
from unikernel.rootfs.cpio import read_cpio_bytes
from unikernel.testing.programs import for_another_machine

NEW = uuid.uuid4().hex
# Multiboot Specification 0.6.96, "Boot information format": flags, ..., cmdline (16), mods_count (20), mods_addr (24).
KERNEL = r"""
typedef unsigned int word;
__asm__(
    ".section .text.first, \"ax\"\n.balign 4\n.long 0x1BADB002, 0, -0x1BADB002\n"
    ".globl _start\n_start: mov $stack + 16384, %esp\npush %ebx\ncall look\n.bss\n.balign 16\nstack: .space 16384\n.text\n");
static void out(unsigned short port, unsigned char value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void print(const char *text) { while (*text) out(0x3f8, *text++); out(0x3f8, '\n'); }
static int is(const char *at, const char *text) { while (*text) if (*at++ != *text++) return 0; return 1; }
static int has(const char *at, const char *end, const char *text) { for (; at < end; at++) if (is(at, text)) return 1; return 0; }
void look(const word *information) {
    const char *line = (const char *)information[4];
    const word *module = (const word *)information[6];
    const char *start = (const char *)module[0], *end = (const char *)module[1];
    int status = 0;
    print(line);
    if (!is(start, "070701") || !has(start, end, "app/program") || !has(start, end, "root:x:0:0")) status = 100;
    while (*line) { if (is(line, "status=")) status += line[7] - '0'; line++; }
    out(0x501, status);
    for (;;) __asm__ volatile("hlt");
}
"""
LOOKER = """\
name: looker
title: a kernel that looks around
license: MIT
architecture: x86_64
tried: in this test
published: in this repository
inputs:
  kernel:
    what: a kernel for QEMU's multiboot
    kind: elf
    machine: i386
takes:
  - static
  - static-pie
honours:
  - files
  - kernel_parameters
pack:
  rootfs: cpio
  kernel: kernel
command_line:
  form: '{parameters} {environment} -- {program} {arguments}'
  quoting: double-quotes
  in_image: no
  environment: 'env=[ {words} ]'
  empty_words: no
  not_in_variables: ']'
boot:
  memory: 8M
  rootfs_copies: 2
  machines:
    pc:
      program: qemu-system-x86_64
      machine: pc
      cpu:
        tcg: max
      arguments: >-
        -nodefaults -display none -no-reboot -serial chardev:console -device isa-debug-exit -kernel {image} -initrd {rootfs}
        -append {command_line}
exit:
  report: monitor-shifted
limits:
  fork: no
"""
DISK = (
    LOOKER[: LOOKER.index("inputs:")].replace("looker", "disk")
    + """\
inputs:
  maker:
    what: what makes disks
    kind: program
takes:
  - static
pack:
  rootfs: nanos-manifest
  command: '{maker} {packed}'
  standard_input: rootfs
  suffix: img
  deterministic: no
"""
    + LOOKER[LOOKER.index("command_line:") :].replace(" -initrd {rootfs}", "")
)
MAKER = "#!/bin/sh\n# {new}\ncat > $1\n{end}\n"
TARGETS = """\
file(name="kernel", source="kernel.elf")
library_os(name="looker", description_file="looker.yaml", inputs={"kernel": ":kernel"}, version="1.2")
file(name="maker", source="maker.sh")
library_os(name="disk", description_file="disk.yaml", inputs={"maker": ":maker"})
"""
PROGRAM = """\
cc_sources(name="sources", sources=["main.c"])
cc_binary(name="program", dependencies=[":sources"])
"""


def compile_kernel(path: Path) -> Path:
    flags = ["-m32", "-O1", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"]
    link = ["-nostdlib", "-static", "-Wl,-Ttext=0x100000", "-Wl,--build-id=none", "-Wl,-z,max-page-size=4096"]
    # The first of the text, where multiboot looks for it.
    subprocess.run(["gcc", *flags, *link, "-x", "c", "-", "-o", path], input=KERNEL.encode(), check=True)
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    with PantsProject(tmp_path_factory.mktemp("repository"), configuration=plugin_configuration(PYTHON_BACKEND)) as project:
        project.write("os/looker.yaml", LOOKER)
        project.write("os/disk.yaml", DISK)
        project.write("os/BUILD", TARGETS)
        compile_kernel(project.root / "os/kernel.elf")
        project.write("os/maker.sh", MAKER.format(new=NEW, end=""))
        project.write("app/main.c", f'int main(void) {{ return 0; }}\nconst char new_{NEW}[] __attribute__((used)) = "{NEW}";\n')
        project.write("app/BUILD", PROGRAM + image())
        yield project


def image(name: str = "unikernel", **fields: object) -> str:
    settings: dict[str, object] = {"app": ":program", "library_os": "looker", **fields}
    return f"unikernel_image(name={name!r}, {', '.join(f'{key}={value!r}' for key, value in settings.items())})\n"


def test_an_image_is_packed_signed_verified_and_run(project: PantsProject) -> None:
    fields: dict[str, Any] = {"args": ["status=7", "two words"], "env": {"A": "1"}, "kernel_parameters": ["loud"]}
    project.write("app/BUILD", PROGRAM + image(**fields))
    processes = set(completed_processes(project.succeed("package", "app:unikernel")))
    assert {"Lay out app:program", "Pack app:unikernel with looker"} <= processes
    verified = project.succeed("unikernel-verify", "app:unikernel")
    assert "manifest in the image" in verified
    status, printed = project.run("run", "app:unikernel")
    assert 'loud env=[ "A=1" "HOME=/" "PATH=' in printed and '-- /app/program "status=7" "two words"' in printed
    assert status == 7
    assert project.run("run", "app:unikernel", "--", "status=2")[0] == 9
    manifest = json.loads((project.root / "dist/app/unikernel.json").read_text())
    assert manifest["library_os"] == {"name": "looker", "version": "1.2", "description": LOOKER}
    assert "not_reproducible" not in manifest
    inputs = {item["name"]: item["sha256"] for item in manifest["inputs"]}
    kernel = hashlib.sha256((project.root / "os/kernel.elf").read_bytes()).hexdigest()
    assert inputs["looker kernel"] == kernel
    document = json.loads((project.root / "dist/app/unikernel.cdx.json").read_text())
    (listed,) = (component for component in document["components"] if component["name"] == "looker")
    assert (listed["version"], listed["hashes"][0]["content"]) == ("1.2", kernel)


def test_what_did_not_change_is_not_packed_again(project: PantsProject) -> None:
    project.write("app/BUILD", PROGRAM + image(library_os="disk"))
    assert "Pack app:unikernel with disk" in completed_processes(project.succeed("package", "app:unikernel"))
    # Its packer gives other bytes each time, and is cached all the same.
    assert json.loads((project.root / "dist/app/unikernel.json").read_text())["not_reproducible"] is True
    content = (project.root / "dist/app/unikernel.img").read_bytes()
    (project.root / "dist/app/unikernel.img").unlink()
    assert completed_processes(project.succeed("package", "app:unikernel")) == []
    assert (project.root / "dist/app/unikernel.img").read_bytes() == content
    # A field repacks, and lays nothing out.
    project.write("app/BUILD", PROGRAM + image(library_os="disk", args=["a"]))
    assert set(completed_processes(project.succeed("package", "app:unikernel"))) == {"Pack app:unikernel with disk"}


def test_one_target_is_an_image_for_each_library_os(project: PantsProject) -> None:
    build = image().replace("'looker'", "parametrize('looker', 'disk')")
    project.write("app/BUILD", PROGRAM + build)
    project.succeed("package", "app:unikernel@library_os=looker", "app:unikernel@library_os=disk")
    images = [name for name in project.dist() if name.endswith((".elf", ".img")) and "@" in name]
    assert images == ["app/unikernel@library_os=disk.img", "app/unikernel@library_os=looker.elf"]
    project.succeed("unikernel-verify", "app:")
    assert project.run("run", "app:unikernel@library_os=looker")[0] == 0


def test_a_debug_file_has_the_kernels_symbols_and_the_programs(project: PantsProject) -> None:
    project.write("app/BUILD", PROGRAM + image(formats=["elf", "debug"]))
    project.succeed("package", "app:unikernel")
    debug_file = project.root / "dist/app/unikernel.elf.debug"
    check_debug_file(project.root / "dist/app/unikernel.elf", debug_file)
    assert " T look\n" in subprocess.run(["nm", debug_file], stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    extracted = extract_programs(debug_file, project.root / "extracted")
    assert list(extracted) == ["app/program"]
    assert (
        f"new_{NEW}"
        in subprocess.run(["nm", extracted["app/program"]], stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    )


def test_what_a_tool_packs_has_no_debug_file(project: PantsProject) -> None:
    project.write("app/BUILD", PROGRAM + image(library_os="disk", formats=["elf", "debug"]))
    reason = "app:unikernel: the `formats` field has debug, and an image of disk is packed without an ELF file that has symbols"
    printed = project.fail("package", "app:unikernel", expected=[reason])
    # Nothing was built of it.
    assert not [process for process in completed_processes(printed) if "app:" in process or process.startswith("Compile")]


def test_a_container_has_the_files_of_the_unikernel(project: PantsProject) -> None:
    fields: dict[str, Any] = {"formats": ["elf", "container"], "user": "1000", "labels": {"team": "web"}, "env": {"A": "1"}}
    # Pants would know how to link what it has linked before, for whatever test.
    project.write("both/main.c", f'char made[] = "{uuid.uuid4().hex}";\nint main(void) {{ return 8; }}\n')
    project.write("both/BUILD", PROGRAM + image(files=[("os:kernel", "/etc/kernel")], **fields))
    processes = completed_processes(project.succeed("package", "both:unikernel"))
    assert {"Pack both:unikernel with looker", "Make a container image of both:unikernel"} <= set(processes)
    assert processes.count("Lay out both:program") == processes.count("Link both:program") == 1
    layout = project.root / "dist/both/unikernel.container"
    manifest = _blob(layout, json.loads((layout / "index.json").read_bytes())["manifests"][0])
    config = json.loads(_blob(layout, json.loads(manifest)["config"]))["config"]
    assert (config["Entrypoint"], config["User"]) == (["/app/program"], "1000")
    assert config["Env"][:2] == ["A=1", "HOME=/"]
    assert config["Labels"]["team"] == "web"
    with io.BytesIO() as packed:
        read_section(project.root / "dist/both/unikernel.elf", ROOTFS_SECTION, packed)
        entries = read_cpio_bytes(packed.getvalue())
    assert _files(layout) == {entry.path: (stat.S_IMODE(entry.mode), content) for entry, content in entries}
    with tarfile.open(project.root / "dist/both/unikernel.container.tar") as archive:
        stream = archive.extractfile("manifest.json")
        assert stream is not None and json.load(stream)[0]["RepoTags"] == ["both/unikernel:latest"]
    # A field of the container only makes nothing else anew.
    fields["labels"] = {"team": "db"}
    project.write("both/BUILD", PROGRAM + image(files=[("os:kernel", "/etc/kernel")], **fields))
    assert completed_processes(project.succeed("package", "both:unikernel")) == ["Make a container image of both:unikernel"]
    project.refuse(
        PROGRAM + image("bad", library_os="picolibc", formats=["elf", "container"]),
        "bad:bad: the `formats` field has container, and an image of picolibc has no root file system",
    )


def _blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    return (layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()


def _files(layout: Path) -> dict[str, tuple[int, bytes]]:
    """What unpacking the layers of a layout gives: mode, and the content, or where a link leads."""
    (image,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    files = {}
    for layer in json.loads(_blob(layout, image))["layers"]:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(_blob(layout, layer)))) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                files[member.name] = (member.mode, stream.read() if stream is not None else member.linkname.encode())
    return files


def test_parametrized_images_with_one_path_are_refused(project: PantsProject) -> None:
    build = image(output_path="one/image.elf").replace("'looker'", "parametrize('looker', 'disk')")
    project.write("bad/main.c", "int main(void) { return 0; }\n")
    project.refuse(
        PROGRAM + build,
        "bad:unikernel@library_os=disk and bad:unikernel@library_os=looker both are written to one/image.elf: give each its own "
        "`output_path`, or leave it out",
        targets=["bad:unikernel@library_os=disk", "bad:unikernel@library_os=looker"],
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"library_os": "nanos"},
            "bad:bad: nanos needs boot, its boot.img; kernel, its kernel.img; mkfs, its mkfs, which is not the one of Linux. Published as: "
            "NanoVMs' releases",
        ),
        ({"library_os": "unikraft"}, 'library_os(name="unikraft", inputs={"kernel": ":..."})'),
        ({"timezone": "UTC"}, "bad:bad: the `timezone` field means nothing to looker: leave it out"),
        ({"args": ["a", ""]}, "bad:bad: looker cannot give its application an empty argument"),
        ({"env": {"A": "[1]"}}, "bad:bad: looker cannot give its application A=[1]: there is a ']' in it"),
        ({"memory": "4M"}, "bad:bad: the `memory` field is 4M, and looker needs 8M at least"),
        ({"memory": "8M"}, "bad:bad: memory: 8 MiB are too small for this root file system"),
        ({"does_without": ["forks"]}, "'forks' is none of c_library, fork, exec"),
    ],
)
def test_fields_that_the_library_os_cannot_honour(project: PantsProject, fields: dict[str, object], expected: str) -> None:
    project.write("bad/main.c", "int main(void) { return 0; }\n")
    project.refuse(PROGRAM + image("bad", **fields), expected)


def test_an_application_that_the_library_os_has_nothing_for(project: PantsProject) -> None:
    project.write("bad/main.c", "#include <unistd.h>\nint main(void) { return fork() > 0; }\n")
    project.refuse(
        PROGRAM + image("bad"),
        "bad:bad: needs fork (fork linked into program), which looker does not provide. If this image never does it, say "
        "does_without=['fork'].",
    )
    project.write("taken/main.c", "#include <unistd.h>\nint main(void) { return fork() > 0; }\n")
    project.write("taken/BUILD", PROGRAM + image(does_without=["fork"]))
    project.succeed("package", "taken:unikernel")
    dynamic = PROGRAM.replace("])\n", '], link="dynamic")\n').replace('["main.c"], link="dynamic"', '["main.c"]')
    project.refuse(dynamic + image("bad", does_without=["fork"]), "program is a dynamic-pie program, and looker takes static")


def test_python_that_starts_programs_is_refused_by_its_modules_name(project: PantsProject) -> None:
    project.write("bad/server.py", "from bad import jobs\n")
    project.write("bad/jobs.py", "import subprocess\n")
    targets = 'python_sources(name="sources")\npex_binary(name="program", entry_point="server.py")\n'
    project.refuse(
        targets + image("bad", library_os="nanos").replace("nanos", "forkless"),
        "bad:bad: needs fork (subprocess imported by bad.jobs), which forkless does not provide",
    )


@pytest.fixture(autouse=True, scope="module")
def forkless(project: PantsProject) -> None:
    """Takes Python, and has no fork."""
    project.write(
        "forkless/forkless.yaml", LOOKER.replace("looker", "forkless").replace("  - static\n", "  - dynamic\n  - dynamic-pie\n")
    )
    project.write(
        "forkless/BUILD", 'library_os(name="forkless", description_file="forkless.yaml", inputs={"kernel": "os:kernel"})\n'
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("foreign", "is for aarch64, and is to be for i386: a kernel for QEMU's multiboot"),
        ("text", "is no ELF file: it is to be a kernel for QEMU's multiboot"),
        ("object", "is an ELF object file, which is no kernel"),
    ],
)
def test_a_kernel_of_another_machine_or_kind(project: PantsProject, kind: str, expected: str) -> None:
    kernel = project.root / "bad/kernel.elf"
    kernel.parent.mkdir(exist_ok=True)
    if kind == "foreign":
        for_another_machine(project.root / "os/kernel.elf", kernel)
    elif kind == "text":
        kernel.write_text("kernel")
    else:
        subprocess.run(["gcc", "-m32", "-c", "-x", "c", "-", "-o", kernel], input=b"int x;\n", check=True)
    project.write("bad/odd.yaml", LOOKER.replace("looker", "odd"))
    targets = 'file(name="kernel", source="kernel.elf")\nlibrary_os(name="odd", description_file="odd.yaml", inputs={"kernel": ":kernel"})\n'
    # The application cannot be built: nothing slow comes before the kernel is looked at.
    project.write("bad/main.c", "this is no C\n")
    project.refuse(PROGRAM + targets + image("bad", library_os="odd"), "bad:bad: The kernel of odd, ", expected)


@pytest.mark.parametrize(
    ("digests", "expected"),
    [
        ({"kernel": "0" * 64}, f"bad:odd: the `sha256` field: kernel is to have {'0' * 64}, and the file os/kernel.elf has "),
        ({"boot": "0" * 64}, "bad:odd: the `sha256` field has 'boot', which the `inputs` field does not bring"),
        ({"kernel": "0"}, "the digest of kernel, '0', is not 64 hex digits"),
    ],
)
def test_a_kernel_with_another_digest(project: PantsProject, digests: dict[str, str], expected: str) -> None:
    project.write("bad/odd.yaml", LOOKER.replace("looker", "odd"))
    targets = f'library_os(name="odd", description_file="odd.yaml", inputs={{"kernel": "os:kernel"}}, sha256={digests!r})\n'
    project.refuse(PROGRAM + targets + image("bad", library_os="odd"), expected)


def test_a_kernel_with_the_right_digest_is_taken(project: PantsProject) -> None:
    kernel = hashlib.sha256((project.root / "os/kernel.elf").read_bytes()).hexdigest()
    project.write("os/BUILD", TARGETS.replace('version="1.2"', f'version="1.2", sha256={{"kernel": "{kernel}"}}'))
    project.write("app/BUILD", PROGRAM + image())
    project.succeed("package", "app:unikernel")


@pytest.mark.parametrize(("end", "expected"), [("exit 2", "ended with status 2"), ("kill -9 $$", "ended with status -9")])
def test_a_packer_that_fails_half_way(project: PantsProject, end: str, expected: str) -> None:
    project.write("bad/maker.sh", MAKER.format(new=NEW, end=f"echo its reason\n{end}"))
    project.write("bad/odd.yaml", DISK.replace("name: disk", "name: odd"))
    project.write("bad/main.c", "int main(void) { return 0; }\n")
    targets = (
        'file(name="maker", source="maker.sh")\nlibrary_os(name="odd", description_file="odd.yaml", inputs={"maker": ":maker"})\n'
    )
    project.refuse(
        PROGRAM + targets + image("bad", library_os="odd"),
        "bad:bad: Cannot pack the image for odd",
        expected,
        "its reason",
    )


def test_readiness_of_a_repository(project: PantsProject) -> None:
    project.write("services/main.c", "int main(void) { return 0; }\n")
    project.write("services/forks.c", '#include <stdlib.h>\nint main(void) { return system("true"); }\n')
    project.write("services/broken.c", "this is no C\n")
    project.write("services/job.py", "from multiprocessing import Pool\n")
    project.write(
        "services/BUILD",
        """\
cc_source(name="main", source="main.c")
cc_binary(name="plain", dependencies=[":main"])
cc_source(name="forks_source", source="forks.c")
cc_binary(name="forks", dependencies=[":forks_source"], link="static-pie")
cc_source(name="broken_source", source="broken.c")
cc_binary(name="broken", dependencies=[":broken_source"])
python_sources()
pex_binary(name="job", entry_point="job.py")
unikernel_image(name="image", app=":forks", does_without=["fork"], library_os="looker")
""",
    )
    text = project.succeed("unikernel-readiness", "--details", "services::")
    assert re.search(r"^services:forks +looker +ready ", text, re.MULTILINE)
    assert re.search(r"^services:plain +linux +ready +.*looker", text, re.MULTILINE)
    assert re.search(r"services:plain \(cc_binary\)\n(.*\n)*?  looker +ready\n", text)
    assert re.search(r"  unikraft +works with changes: plain is a static program, and unikraft takes static-pie", text)
    assert re.search(
        r"^services:broken +linux +cannot be checked +1 source of services:broken can't be compiled", text, re.MULTILINE
    )
    assert "services:broken (cc_binary): cannot be checked: 1 source of services:broken can't be compiled." in text
    assert "unikraft: kernel (" in text
    options = ["--json", '--library-os=["looker", "nanos", "forkless", "linux", "picolibc"]']
    printed = project.succeed("unikernel-readiness", *options, "services::")
    document = json.loads(printed[printed.index("{\n") :])
    services = {service["address"]: service for service in document["services"]}
    assert set(services) == {f"services:{name}" for name in ("plain", "forks", "broken", "job")}
    forks = services["services:forks"]["library_oses"]
    # Its image does without.
    assert forks["looker"]["readiness"] == "ready"
    job = services["services:job"]["library_oses"]
    assert job["forkless"]["reasons"] == ["needs fork (multiprocessing imported by services.job), which forkless does not provide"]
    assert (job["linux"]["readiness"], job["looker"]["readiness"], job["picolibc"]["readiness"]) == (
        "ready",
        "not ready",
        "not ready",
    )
    assert document["library_oses"]["nanos"]["to_declare"] == ["kernel", "boot", "mkfs"]
    project.fail(
        "unikernel-readiness",
        '--library-os=["nano"]',
        "services::",
        expected=["There is no library OS 'nano'", "Did you mean 'nanos'?"],
    )


def test_readiness_without_a_service(project: PantsProject) -> None:
    assert os.path.exists(project.root / "os/BUILD")
    project.fail("unikernel-readiness", "os::", expected=["none of the targets is packaged as a service"])
