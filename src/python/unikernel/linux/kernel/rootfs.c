// SPDX-License-Identifier: GPL-2.0-only
/*
 * The root file system, in place.
 *
 * An object of ours, compiled with the kernel's headers and linked next to its own objects; no kernel source is changed. The kernel
 * would copy each file of an initramfs into tmpfs, page by page, and throw the original away: a fifth of the time in which a Python
 * service starts under emulation, and twice the memory. Here the image's own pages become the files': they are given to the page
 * cache of tmpfs as they are, and are ordinary pages of it from then on: written to in place, and free again when a file is removed.
 *
 * Between __unikernel_rootfs and __unikernel_rootfs_end are newc cpio archives (driver-api/early-userspace/buffer-format.rst), each
 * from a page boundary on, with the data of each file from a page boundary on as well. Data elsewhere is copied.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/init.h>
#include <linux/init_syscalls.h>
#include <linux/initrd.h>
#include <linux/kdev_t.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/shmem_fs.h>
#include <linux/string.h>
#include <linux/swap.h>
#include <linux/task_work.h>
#include <linux/uidgid.h>

#define HEADER_SIZE 110
#define TRAILER "TRAILER!!!"

/* The fields of a header, in the order in which they are there. */
enum field { INODE, MODE, UID, GID, LINKS, MTIME, SIZE, MAJOR, MINOR, DEVICE_MAJOR, DEVICE_MINOR, NAME_SIZE };

extern char __unikernel_rootfs[], __unikernel_rootfs_end[];

/* Up to here, pages are files' or free. */
static char *settled __initdata;
/* What follows the end of the last file in its last page: headers, until they are read, and zeros then. */
static char *tail __initdata;
/* There are directories with S_ISGID: what is made in one gets its group, and a directory that bit. */
static bool groups_are_inherited __initdata;

static u32 __init read_field(const char *header, enum field field)
{
	u32 value = 0;
	int i;

	for (i = 0; i < 8; i++)
		value = value << 4 | hex_to_bin(header[6 + 8 * field + i]);
	return value;
}

static void __init check(const char *path, int error)
{
	if (error)
		panic("The root file system cannot be laid out: %s: error %d", path, error);
}

static struct page *__init page_of(const char *address)
{
	return pfn_to_page(__pa_symbol(address) >> PAGE_SHIFT);
}

static void __init clear_tail(void)
{
	if (tail && offset_in_page(tail))
		memset(tail, 0, PAGE_ALIGN((unsigned long)tail) - (unsigned long)tail);
	tail = NULL;
}

static void __init free_pages_until(char *end)
{
	for (; settled < end; settled += PAGE_SIZE)
		free_reserved_page(page_of(settled));
}

/*
 * As mm/shmem.c does it with pages that it has allocated, but for all of a file at once, and without the lists of the page reclaim:
 * there is no swap space that these pages could go to.
 */
static int __init give_pages(struct inode *inode, char *data, u32 size)
{
	struct address_space *mapping = inode->i_mapping;
	struct shmem_inode_info *info = SHMEM_I(inode);
	struct shmem_sb_info *tmpfs = inode->i_sb->s_fs_info;
	unsigned long count = DIV_ROUND_UP(size, PAGE_SIZE), index = 0;
	struct page *first = page_of(data);
	XA_STATE(xas, &mapping->i_pages, 0);

	adjust_managed_page_count(first, count);
	do {
		xas_lock_irq(&xas);
		for (xas_set(&xas, index); index < count; xas_next(&xas)) {
			struct folio *folio = page_folio(page_of(data + index * PAGE_SIZE));

			folio->mapping = mapping;
			folio->index = index;
			xas_store(&xas, folio);
			if (xas_error(&xas))
				break;
			/* Nobody else knows of it yet. */
			__ClearPageReserved(&folio->page);
			__folio_set_swapbacked(folio);
			__folio_mark_uptodate(folio);
			folio_set_dirty(folio);
			init_page_count(&folio->page);
			index++;
		}
		mapping->nrpages = index;
		xas_unlock_irq(&xas);
	} while (xas_nomem(&xas, GFP_KERNEL));
	if (xas_error(&xas))
		return xas_error(&xas);
	mod_lruvec_page_state(first, NR_FILE_PAGES, count);
	mod_lruvec_page_state(first, NR_SHMEM, count);
	spin_lock_irq(&info->lock);
	info->alloced += count;
	inode->i_blocks += count * (PAGE_SIZE / 512);
	spin_unlock_irq(&info->lock);
	i_size_write(inode, size);
	if (info->flags & VM_NORESERVE)
		vm_acct_memory(count);
	/* The limit is half of the memory, as that was without these pages. They do not count. */
	if (tmpfs->max_blocks) {
		percpu_counter_add(&tmpfs->used_blocks, count);
		tmpfs->max_blocks += count;
	}
	return 0;
}

static int __init add_file(const char *path, umode_t mode, char *data, u32 size)
{
	struct file *file = filp_open(path, O_WRONLY | O_CREAT | O_EXCL | O_LARGEFILE, mode);
	struct inode *inode;
	int error = 0;

	if (IS_ERR(file))
		return PTR_ERR(file);
	inode = file_inode(file);
	if (size && IS_ALIGNED((unsigned long)data, PAGE_SIZE) && shmem_mapping(inode->i_mapping)) {
		error = give_pages(inode, data, size);
		clear_tail();
		free_pages_until(data);
		tail = data + size;
		settled = (char *)PAGE_ALIGN((unsigned long)tail);
	} else if (size) {
		loff_t position = 0;
		ssize_t written = kernel_write(file, data, size, &position);

		error = written < 0 ? written : written < size ? -ENOSPC : 0;
	}
	fput(file);
	return error;
}

static int __init add_symlink(const char *path, const char *data, u32 size)
{
	char *target = kstrndup(data, size, GFP_KERNEL);
	int error = target ? init_symlink(target, path) : -ENOMEM;

	kfree(target);
	return error;
}

static int __init add_entry(const char *path, umode_t mode, dev_t device, char *data, u32 size)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return add_file(path, mode, data, size);
	case S_IFLNK:
		return add_symlink(path, data, size);
	case S_IFDIR:
		return init_mkdir(path, mode);
	default:
		return init_mknod(path, mode, new_encode_dev(device));
	}
}

static bool __init is_root(uid_t uid, gid_t gid)
{
	return uid == 0 && gid == 0;
}

static bool __init leads_to_directory(const char *path)
{
	struct kstat target;

	return !init_stat(path, &target, 0) && S_ISDIR(target.mode);
}

/* A later archive has a directory where something is: it may name it only as the parent of what it has. */
static bool __init share_directory(const char *path, const struct kstat *there, umode_t mode, uid_t uid, gid_t gid)
{
	if (S_ISLNK(there->mode))
		return leads_to_directory(path);
	if (!S_ISDIR(there->mode))
		return false;
	if (is_root(uid, gid) && !(uid_eq(there->uid, GLOBAL_ROOT_UID) && gid_eq(there->gid, GLOBAL_ROOT_GID)))
		return true;
	if (!is_root(uid, gid))
		check(path, init_chown(path, uid, gid, 0));
	check(path, init_chmod(path, mode));
	return true;
}

/* Later archives replace what earlier ones have; directories are shared. rootfs/merge.py does the same. */
static void __init replace_entry(const char *path, umode_t mode, uid_t uid, gid_t gid, dev_t device, char *data, u32 size)
{
	int error = add_entry(path, mode, device, data, size);

	if (S_ISDIR(mode) && mode & S_ISGID)
		groups_are_inherited = true;
	if (error == -EEXIST) {
		struct kstat there;

		check(path, init_stat(path, &there, AT_SYMLINK_NOFOLLOW));
		if (S_ISDIR(mode) && share_directory(path, &there, mode, uid, gid))
			return;
		check(path, S_ISDIR(there.mode) ? init_rmdir(path) : init_unlink(path));
		error = add_entry(path, mode, device, data, size);
	}
	check(path, error);
	if (!is_root(uid, gid) || groups_are_inherited)
		check(path, init_chown(path, uid, gid, AT_SYMLINK_NOFOLLOW));
	/* Bits that open, mkdir and chown may drop, or add. */
	if (!S_ISLNK(mode) && (mode & (S_ISUID | S_ISGID | S_ISVTX) || groups_are_inherited))
		check(path, init_chmod(path, mode));
}

static int __init populate_rootfs_in_place(void)
{
	char *cursor = __unikernel_rootfs;
	u64 start = ktime_get_ns();
	int umask = xchg(&current->fs->umask, 0);

	/* What QEMU's -initrd brings comes first. */
	wait_for_initramfs();
	settled = cursor;
	while (cursor < __unikernel_rootfs_end) {
		char *header = cursor, *path = cursor + HEADER_SIZE, *data;
		u32 size, name_size;

		if (memcmp(header, "070701", 6))
			panic("The root file system is damaged at offset %#lx", (unsigned long)(cursor - __unikernel_rootfs));
		size = read_field(header, SIZE);
		name_size = read_field(header, NAME_SIZE);
		data = header + ALIGN(HEADER_SIZE + name_size, 4);
		cursor = data + ALIGN((unsigned long)size, 4);
		if (!strcmp(path, TRAILER))
			cursor = (char *)PAGE_ALIGN((unsigned long)cursor);
		else
			replace_entry(path, read_field(header, MODE), read_field(header, UID), read_field(header, GID),
				      MKDEV(read_field(header, DEVICE_MAJOR), read_field(header, DEVICE_MINOR)), data, size);
	}
	clear_tail();
	free_pages_until(__unikernel_rootfs_end);
	/* A program that is open for writing cannot be started: close the files now. */
	flush_delayed_fput();
	task_work_run();
	pr_info("Root file system: %lu KiB in place in %llu us\n", (unsigned long)(__unikernel_rootfs_end - __unikernel_rootfs) >> 10,
		(ktime_get_ns() - start) / NSEC_PER_USEC);
	xchg(&current->fs->umask, umask);
	return 0;
}
rootfs_initcall(populate_rootfs_in_place);
