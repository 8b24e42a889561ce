// SPDX-License-Identifier: GPL-2.0-only
/*
 * What QEMU without hardware virtualisation (TCG) needs to be quick.
 *
 * An object of ours, compiled with the kernel's headers and linked next to its own objects; no kernel source is changed. Only where
 * CPUID names TCG: on KVM, Firecracker or hardware nothing happens.
 */
#include <linux/container_of.h>
#include <linux/cpumask.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/percpu.h>
#include <linux/string.h>
#include <linux/timer.h>

#include <asm/apic.h>
#include <asm/cpufeature.h>
#include <asm/early_ioremap.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/special_insns.h>
#include <asm/x86_init.h>

static bool __init emulated(void)
{
	u32 highest, name[3];

	if (!boot_cpu_has(X86_FEATURE_HYPERVISOR))
		return false;
	cpuid(0x40000000, &highest, &name[0], &name[1], &name[2]);
	return !memcmp(name, "TCGTCGTCGTCG", sizeof(name));
}

/*
 * Clocks.
 *
 * Linux measures the TSC against the PIT (15 to 200 ms, and on a busy host it gives up and falls back to a 10 ms clock) and the local
 * APIC timer against the TSC (another 200 ms). Under TCG neither is needed: the local APIC timer counts nanoseconds of the guest
 * clock. So the APIC period is known, and the TSC is measured against the APIC counter in 4 ms. Asked for by "tcg_clock" on the
 * command line.
 */
struct sample {
	u64 tsc;
	u32 count;
};

static unsigned long tsc_khz_by_apic __initdata;

/* The reading of the counter with the narrowest pair of TSC readings around it. */
static struct sample __init sample_clocks(void __iomem *apic)
{
	struct sample best = { 0, 0 };
	u64 width = ~0ull;
	int i;

	for (i = 0; i < 12; i++) {
		u64 before = rdtsc_ordered();
		u32 count = readl(apic + APIC_TMCCT);
		u64 after = rdtsc_ordered();

		if (after - before < width) {
			width = after - before;
			best.tsc = before + width / 2;
			best.count = count;
		}
	}
	return best;
}

static unsigned long __init tsc_khz_as_measured(void)
{
	return tsc_khz_by_apic;
}

static int __init tcg_clock(char *unused)
{
	struct sample start, end;
	void __iomem *apic;

	if (!emulated() || !boot_cpu_has(X86_FEATURE_APIC) || !boot_cpu_has(X86_FEATURE_TSC))
		return 0;
	/* TCG executes "rep movsb" byte by byte: have the alternatives pick the unrolled loops. */
	setup_clear_cpu_cap(X86_FEATURE_REP_GOOD);
	setup_clear_cpu_cap(X86_FEATURE_ERMS);
	setup_clear_cpu_cap(X86_FEATURE_FSRM);
	apic = early_ioremap(APIC_DEFAULT_PHYS_BASE, PAGE_SIZE);
	if (!apic)
		return 0;
	/* Masked, one shot, undivided. */
	writel(APIC_LVT_MASKED, apic + APIC_LVTT);
	writel(APIC_TDR_DIV_1, apic + APIC_TDCR);
	writel(~0u, apic + APIC_TMICT);
	start = sample_clocks(apic);
	do
		end.count = readl(apic + APIC_TMCCT);
	while (start.count - end.count < 4000000 && end.count);
	end = sample_clocks(apic);
	writel(0, apic + APIC_TMICT);
	early_iounmap(apic, PAGE_SIZE);
	/* A counter that does not count: leave all to Linux. */
	if (start.count - end.count < 3000000)
		return 0;
	tsc_khz_by_apic = (end.tsc - start.tsc) * 1000000 / (start.count - end.count);
	if (tsc_khz_by_apic < 100000)
		return 0;
	x86_platform.calibrate_cpu = x86_platform.calibrate_tsc = tsc_khz_as_measured;
	lapic_timer_period = 1000000000 / HZ;
	return 0;
}
early_param("tcg_clock", tcg_clock);

/*
 * The TLB.
 *
 * QEMU makes its TLB larger or smaller by how full it was, but only when the guest flushes it (accel/tcg/cputlb.c,
 * tlb_mmu_resize_locked). Linux flushes it often while it starts, when little is in it, and hardly ever with one process running: the
 * application was left with the smallest of sizes, and a fifth of the time in which a Python service starts went into misses. So the
 * TLB is flushed now and then, less and less often, and never for the sake of an idle CPU.
 */

/* How often at each tick, before the ticks between two flushes grow by a half each time; and up to what. */
#define AT_EACH_TICK 8
#define LONGEST (2 * HZ)

struct flusher {
	struct timer_list timer;
	unsigned int count;
	unsigned long ticks;
};

static DEFINE_PER_CPU(struct flusher, flusher);

static void flush_tlb_of_this_cpu(struct timer_list *timer)
{
	struct flusher *this = container_of(timer, struct flusher, timer);

	native_write_cr3(__native_read_cr3());
	if (++this->count >= AT_EACH_TICK)
		this->ticks = min(this->ticks + this->ticks / 2 + 1, (unsigned long)LONGEST);
	mod_timer(timer, jiffies + this->ticks);
}

static int __init start_flushing(void)
{
	int cpu;

	if (!emulated())
		return 0;
	for_each_online_cpu(cpu) {
		struct flusher *this = per_cpu_ptr(&flusher, cpu);

		timer_setup(&this->timer, flush_tlb_of_this_cpu, TIMER_PINNED | TIMER_DEFERRABLE);
		this->ticks = 1;
		this->timer.expires = jiffies + 1;
		add_timer_on(&this->timer, cpu);
	}
	return 0;
}
late_initcall(start_flushing);
