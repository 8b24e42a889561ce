/* Virtual machine monitors on x86; see vmm.h. For other architectures (where PSCI powers off) there is nothing to add
 * yet but a way to hand over the status. */
#include "vmm.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <stddef.h>
#include <sys/io.h>
#include <unistd.h>

enum {
    PORT_STATUS = 0x502,     /* QEMU: -device isa-debugcon,iobase=0x502: all eight bits of the status */
    PORT_DEBUG_EXIT = 0x501, /* QEMU: -device isa-debug-exit (at its default): QEMU ends with (status << 1) | 1 */
};

/* Ports where a write ends the machine; elsewhere they are free or, on QEMU's q35 and pc, harmless bits of the same
 * power management block at 0x600. In this order: the reset comes last. */
static const struct {
    uint16_t port;
    uint8_t size;
    uint16_t value;
} power_off_ports[] = {
    {0x604, 2, 0x2000}, /* QEMU q35 and pc: PM1a control register, SLP_EN with sleep type 0 (S5) */
    {0x600, 1, 0x34},   /* cloud-hypervisor: its ACPI sleep register, SLP_EN with S5 */
    {0x064, 1, 0xfe},   /* Firecracker, kvmtool, crosvm: a reset by the keyboard controller ends the VMM */
};

/* Under a hypervisor (CPUID leaf 1, ECX bit 31), and with access to all ports. On a real machine these ports can be
 * anything. */
static bool may_use_ports(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx >> 31 && iopl(3) == 0;
}

void vmm_report_status(uint8_t status)
{
    if (!may_use_ports())
        return;
    outb(status, PORT_STATUS);
    outb(status, PORT_DEBUG_EXIT);
}

bool vmm_kernel_can_power_off(void)
{
    return access("/sys/firmware/acpi", F_OK) == 0;
}

void vmm_power_off(void)
{
    if (!may_use_ports())
        return;
    for (size_t i = 0; i < sizeof power_off_ports / sizeof *power_off_ports; i++) {
        if (power_off_ports[i].size == 2)
            outw(power_off_ports[i].value, power_off_ports[i].port);
        else
            outb((uint8_t)power_off_ports[i].value, power_off_ports[i].port);
    }
}

#else

void vmm_report_status(uint8_t status)
{
    (void)status;
}

bool vmm_kernel_can_power_off(void)
{
    return true;
}

void vmm_power_off(void)
{
}

#endif
