// SPDX-License-Identifier: GPL-2.0-only
/*
 * Queues of virtio devices that are no longer than a device needs them.
 *
 * An object of ours, compiled with the kernel's headers and linked next to its own objects; no kernel source is changed: the linker has
 * drivers call this in place of vring_create_virtqueue() (ld's option --wrap).
 *
 * QEMU's virtio-mmio offers queues of 1024 entries for every device, and drivers fill those that receive: 4 MiB for each port of a
 * console, of which nobody ever reads, and as much for a network card. What QEMU has on PCI is plenty.
 */
#include <linux/minmax.h>
#include <linux/types.h>
#include <linux/virtio.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#ifdef CONFIG_VIRTIO

#define MOST_ENTRIES 256u
#define CONSOLE_ENTRIES 16u

typedef bool notify_function(struct virtqueue *queue);
typedef void callback_function(struct virtqueue *queue);

struct virtqueue *__real_vring_create_virtqueue(unsigned int index, unsigned int num, unsigned int vring_align,
						struct virtio_device *vdev, bool weak_barriers, bool may_reduce_num, bool context,
						notify_function *notify, callback_function *callback, const char *name);
struct virtqueue *__wrap_vring_create_virtqueue(unsigned int index, unsigned int num, unsigned int vring_align,
						struct virtio_device *vdev, bool weak_barriers, bool may_reduce_num, bool context,
						notify_function *notify, callback_function *callback, const char *name);

/* A transport may set any size up to the one that the device offers (virtio 1.1, 4.2.3.2), and tells the device the queue's own. */
struct virtqueue *__wrap_vring_create_virtqueue(unsigned int index, unsigned int num, unsigned int vring_align,
						struct virtio_device *vdev, bool weak_barriers, bool may_reduce_num, bool context,
						notify_function *notify, callback_function *callback, const char *name)
{
	const unsigned int most = vdev->id.device == VIRTIO_ID_CONSOLE ? CONSOLE_ENTRIES : MOST_ENTRIES;

	return __real_vring_create_virtqueue(index, min(num, most), vring_align, vdev, weak_barriers, may_reduce_num, context,
					     notify, callback, name);
}

#endif
