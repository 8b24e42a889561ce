// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clocks under QEMU without hardware virtualisation (TCG).
 *
 * An object of ours, linked next to the kernel's own ones; no kernel source is changed. Linux measures the TSC against
 * the PIT (15 to 200 ms, and on a busy host it gives up and falls back to a 10 ms clock) and the local APIC timer
 * against the TSC (another 200 ms). Under TCG neither is needed: the local APIC timer counts nanoseconds of the guest
 * clock. So the APIC period is known, and the TSC is measured against the APIC counter in 4 ms.
 *
 * Active only with "tcg_clock" on the command line AND when CPUID names TCG; on KVM, Firecracker or hardware nothing
 * happens. Freestanding on purpose: it relies on four symbols and on the layout of struct obs_kernel_param only.
 */
#define INIT __attribute__((section(".init.text"), noinline))
typedef unsigned int u32;
typedef unsigned long u64;

extern u32 lapic_timer_period;                 /* bus cycles per tick */
extern struct { u64 (*calibrate_cpu)(void), (*calibrate_tsc)(void); } x86_platform; /* its first two members */
extern void *early_ioremap(u64 phys, u64 size);
extern void early_iounmap(void *addr, u64 size);
extern void setup_clear_cpu_cap(u32 feature);

#define APIC_BASE 0xfee00000ul
#define LVTT  0x320
#define TMICT 0x380
#define TMCCT 0x390
#define TDCR  0x3e0

static u64 tsc_khz_by_apic __attribute__((section(".init.data"))) = 1;

static inline u64 rdtsc(void)
{
	u32 lo, hi;
	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (u64)hi << 32 | lo;
}

struct sample { u64 tsc; u32 count; };

/* The reading of the counter with the narrowest pair of TSC readings around it. */
static INIT struct sample sample(volatile char *apic)
{
	struct sample best = { 0, 0 };
	u64 width = ~0ul;
	int i;

	for (i = 0; i < 12; i++) {
		u64 before = rdtsc();
		u32 count = *(volatile u32 *)(apic + TMCCT);
		u64 after = rdtsc();
		if (after - before < width) {
			width = after - before;
			best.tsc = before + width / 2;
			best.count = count;
		}
	}
	return best;
}

static INIT u64 khz(void)
{
	return tsc_khz_by_apic;
}

static INIT int tcg_clock(char *unused)
{
	u32 a, b, c, d;
	struct sample s, e;
	volatile char *apic;

	__asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "0"(1), "2"(0));
	if (!(c >> 31) || !(d >> 9 & 1) || !(d >> 4 & 1))       /* a hypervisor, an APIC and a TSC */
		return 0;
	__asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "0"(0x40000000), "2"(0));
	if (b != 0x54474354 || c != 0x43544743 || d != 0x47435447) /* "TCGTCGTCGTCG" */
		return 0;
	/* TCG executes "rep movsb" byte by byte: have the alternatives pick the unrolled loops. */
	setup_clear_cpu_cap(3 * 32 + 16);                       /* X86_FEATURE_REP_GOOD */
	setup_clear_cpu_cap(9 * 32 + 9);                        /* X86_FEATURE_ERMS */
	setup_clear_cpu_cap(18 * 32 + 4);                       /* X86_FEATURE_FSRM */
	apic = early_ioremap(APIC_BASE, 4096);
	if (!apic)
		return 0;
	*(volatile u32 *)(apic + LVTT) = 0x10000;               /* masked, one shot */
	*(volatile u32 *)(apic + TDCR) = 0xb;                   /* divide by one */
	*(volatile u32 *)(apic + TMICT) = 0xffffffff;
	s = sample(apic);
	do
		e.count = *(volatile u32 *)(apic + TMCCT);
	while (s.count - e.count < 4000000 && e.count);
	e = sample(apic);
	*(volatile u32 *)(apic + TMICT) = 0;
	early_iounmap((void *)apic, 4096);
	if (s.count - e.count < 3000000)                        /* the counter does not count: leave all to Linux */
		return 0;
	tsc_khz_by_apic = (e.tsc - s.tsc) * 1000000 / (s.count - e.count);
	if (tsc_khz_by_apic < 100000)
		return 0;
	x86_platform.calibrate_cpu = x86_platform.calibrate_tsc = khz;
	lapic_timer_period = 1000000000 / HZ;
	return 0;
}

static const char name[] __attribute__((section(".init.rodata"), used, aligned(1))) = "tcg_clock";
static const struct { const char *str; int (*fn)(char *); int early; } param
	__attribute__((section(".init.setup"), used, aligned(8))) = { name, tcg_clock, 1 };
