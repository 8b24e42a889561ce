/* What only the architecture knows about virtual machine monitors: where to leave the exit status, how to end. */
#ifndef UNIKERNEL_VMM_H
#define UNIKERNEL_VMM_H

#include <stdbool.h>
#include <stdint.h>

/* Tells the VMM the exit status. May end the machine at once (QEMU's isa-debug-exit). */
void vmm_report_status(uint8_t status);

/* Whether reboot(RB_POWER_OFF) ends this machine: without a way to power off, the kernel would halt for ever. */
bool vmm_kernel_can_power_off(void);

/* Ends the machine in the ways that VMMs offer without ACPI tables. Returns if there is none. */
void vmm_power_off(void);

#endif
