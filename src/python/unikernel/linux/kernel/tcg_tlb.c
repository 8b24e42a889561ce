// SPDX-License-Identifier: GPL-2.0-only
/*
 * The TLB of QEMU without hardware virtualisation (TCG).
 *
 * An object of ours, compiled with the kernel's headers and linked next to its own objects; no kernel source is changed. QEMU makes
 * its TLB larger or smaller by how full it was, but only when the guest flushes it (accel/tcg/cputlb.c, tlb_mmu_resize_locked). Linux
 * flushes it often while it starts, when little is in it, and hardly ever with one process running: the application was left with
 * the smallest of sizes, and half of the time in which a Python service starts went into misses. So the TLB is flushed now and then,
 * less and less often, and never for the sake of an idle CPU.
 *
 * Only where CPUID names TCG: on KVM, Firecracker or hardware nothing happens.
 */
#include <linux/container_of.h>
#include <linux/cpumask.h>
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/percpu.h>
#include <linux/string.h>
#include <linux/timer.h>

#include <asm/processor.h>
#include <asm/special_insns.h>

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

static bool __init emulated(void)
{
	u32 highest, name[3];

	if (!boot_cpu_has(X86_FEATURE_HYPERVISOR))
		return false;
	cpuid(0x40000000, &highest, &name[0], &name[1], &name[2]);
	return !memcmp(name, "TCGTCGTCGTCG", sizeof(name));
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
