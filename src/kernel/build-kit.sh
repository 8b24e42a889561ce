#!/bin/bash
# build-kit.sh SOURCE BUILD [FRAGMENT...]: compiles SOURCE (an unpacked kernel) in BUILD (a new directory) and leaves
# there kernel.o and vmlinux.lds: the kit. FRAGMENTs are extra .config lines, e.g. CONFIG_SMP=y.
# The result depends on the source, the fragments and the compiler only, not on paths, time, user or host.
set -euo pipefail
export LC_ALL=C TZ=UTC0 KBUILD_BUILD_TIMESTAMP='1970-01-01' KBUILD_BUILD_USER=kit KBUILD_BUILD_HOST=kit KBUILD_BUILD_VERSION=1
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$1" && pwd)
mkdir -p "$2"
build=$(cd "$2" && pwd)
shift 2

# Configure, and refuse if a single line was dropped.
version=$(make -s -C "$source" kernelversion | cut -d. -f1,2)
cat "$here/base.config" > "$build/fragment"
if [ -e "$here/base-$version.config" ]; then cat "$here/base-$version.config" >> "$build/fragment"; fi
for f in "$@"; do cat "$f" >> "$build/fragment"; done
marker=PANTS-UNIKERNEL-COMMAND-LINE-
while [ ${#marker} -lt 1024 ]; do marker=$marker-; done
{ echo CONFIG_CMDLINE_BOOL=y; echo "CONFIG_CMDLINE=\"$marker\""; } >> "$build/fragment"
make -s -C "$source" O="$build" KCONFIG_ALLCONFIG="$build/fragment" allnoconfig
missing=$(grep '^CONFIG_' "$build/fragment" | grep -vxFf "$build/.config" || true)
if [ -n "$missing" ]; then echo "dropped by the configuration:" "$missing" >&2; exit 1; fi

# Compile. No libcalls are expanded to "rep movsb" (-Os would), every function and datum gets a section of its own, and
# the self-test of BLAKE2s at each boot is left out.
flags="-ffunction-sections -fdata-sections -fno-builtin-memset -fno-builtin-memcpy -DCONFIG_CRYPTO_MANAGER_DISABLE_TESTS=1"
for target in vmlinux_o "init/version-timestamp.o arch/x86/kernel/vmlinux.lds"; do
  make -s -j"$(nproc)" -C "$source" O="$build" KCFLAGS="$flags" $target
done

# Our own object: clocks under TCG.
cd "$build"
hz=$(sed -n 's/^CONFIG_HZ=//p' .config)
gcc -c -O2 -Wall -DHZ="$hz" -ffreestanding -mcmodel=kernel -mno-red-zone -mgeneral-regs-only -fno-pic \
  -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -o tcg.o "$here/tcg.c"

# One relocatable object without what nothing refers to. Sections of single functions and data may go; all others (init
# calls, exception tables, alternatives, parameters, assembly) are roots, and so stay, with all they refer to.
ar t vmlinux.a | grep -vx usr/initramfs_data.o > members
link() {
  ld -m elf_x86_64 -z noexecstack -r "$@" --whole-archive $(cat members) init/version-timestamp.o tcg.o \
    --no-whole-archive --start-group lib/lib.a arch/x86/lib/lib.a --end-group
}
link -o all.o 2> /dev/null
{
  echo 'SECTIONS {'
  for s in text data bss; do echo " .$s 0 : { KEEP(*(.$s)) *(.$s.[0-9A-Za-z_]*) }"; done
  # Constants that the final link merges stay apart from those it cannot.
  for s in str1.1 str1.8 cst2 cst4 cst8 cst16 cst32; do echo " .rodata.$s 0 : { *(.rodata.$s .rodata.*.$s) }"; done
  echo ' .rodata 0 : { KEEP(*(.rodata)) *(.rodata.[0-9A-Za-z_]*) }'
  objdump -h all.o | awk '$1 ~ /^[0-9]+$/ { print $2 }' | sort -u |
    grep -vE '^\.(text|data|bss|rodata)(\.[0-9A-Za-z_].*)?$|^\.(comment|note\.GNU-stack|discard\..*)$' |
    sed 's/.*/ & 0 : { KEEP(*(&)) }/'
  echo ' /DISCARD/ : { *(.comment) *(.note.GNU-stack) *(.discard.*) }'
  echo '}'
} > merge.lds
link --gc-sections -T merge.lds -e startup_64 -u jiffies_64 -o collected.o 2> /dev/null
objcopy --strip-unneeded collected.o kernel.o
cp arch/x86/kernel/vmlinux.lds vmlinux.lds
ls -l kernel.o vmlinux.lds
