// SPDX-License-Identifier: GPL-3.0-or-later
// System calls and constants that Swift's Glibc module does not export. The policy is in LinuxSystem.
// Every function returns 0 (or a descriptor) or -errno, so that errno cannot be lost on the way to Swift.
#pragma once
#include <stdint.h>
#include <stddef.h>
#include <sys/types.h>

int rf_o_direct(void);
int rf_o_path(void);

int rf_block_byte_count(int fd, uint64_t *out);
int rf_block_logical_sector(int fd, int *out);
int rf_block_physical_sector(int fd, unsigned *out);
int rf_block_alignment_offset(int fd, int *out);
int rf_block_optimal_io(int fd, unsigned *out);
int rf_block_disk_sequence(int fd, uint64_t *out);
int rf_block_flush_buffers(int fd);
int rf_block_discard(int fd, uint64_t offset, uint64_t length);
int rf_block_zero_out(int fd, uint64_t offset, uint64_t length);
int rf_block_reread_partitions(int fd);
int rf_block_add_partition(int fd, int number, uint64_t offset, uint64_t length);
int rf_block_delete_partition(int fd, int number);

int rf_fallocate_punch(int fd, uint64_t offset, uint64_t length);
int rf_drop_cache(int fd, uint64_t offset, uint64_t length);

int rf_loop_get_free(int control_fd);
int rf_loop_configure(int loop_fd, int backing_fd, uint64_t offset, uint64_t size_limit, unsigned block_size,
                      int read_only, const char *owner);
// The `owner` given to rf_loop_configure, or the name that another program gave the device.
int rf_loop_owner(int loop_fd, char owner[64]);
int rf_loop_clear(int loop_fd);
// The base of a loop device: a file (its filesystem's device and its inode), or a device (then `special` is not 0).
int rf_loop_backing(int loop_fd, uint64_t *device, uint64_t *inode, uint64_t *special);

// A network block device, read-only, on a socket past the handshake; the kernel keeps the socket.
int rf_nbd_attach(int nbd_fd, int socket_fd, uint64_t byte_count, unsigned sector_size);
// Returns once the device is detached. Signals do not interrupt it, as that would detach the device.
int rf_nbd_run(int nbd_fd);
int rf_nbd_detach(int nbd_fd);

// Locks of an open file description; `length` 0 to the end of the file.
int rf_lock(int fd, int exclusive, uint64_t start, uint64_t length);
// 1 if another process holds a conflicting lock, with its start and length; else 0.
int rf_lock_holder(int fd, int exclusive, uint64_t *start, uint64_t *length);

int rf_openat2(int dir_fd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
uint64_t rf_resolve_in_root(void);
uint64_t rf_resolve_no_magiclinks(void);

// The storage of `path`: 1 memory (tmpfs, ramfs), 2 a filesystem of this machine's disks, 0 anything else.
int rf_storage(const char *path);

int rf_memfd_create(const char *name);

// The next connection to the listening socket `fd`, close-on-exec.
int rf_accept(int fd);

// Opens an unnamed file in `folder` for writing; rf_link_unnamed gives it a name that does not exist yet.
int rf_open_unnamed(const char *folder, unsigned mode);
int rf_link_unnamed(int fd, const char *path);

int rf_rename_new(const char *old_path, const char *new_path);
int rf_rename_new_at(int folder, const char *old_name, const char *new_name);
int rf_syncfs(int fd);
// Of the glibc functions that Swift does not import; they return -1 and set errno.
ssize_t rf_list_attributes(const char *path, char *buffer, size_t size);
ssize_t rf_get_attribute(const char *path, const char *name, char *buffer, size_t size);
int rf_set_attribute(const char *path, const char *name, const void *value, size_t size);

int rf_mount(const char *source, const char *target, const char *type, uint64_t flags, const char *data);
int rf_umount(const char *target, int lazy);
uint64_t rf_ms_rdonly(void);
uint64_t rf_ms_nosuid(void);
uint64_t rf_ms_nodev(void);
uint64_t rf_ms_noexec(void);
uint64_t rf_ms_bind(void);
uint64_t rf_ms_rec(void);

// Gives the calling process, which has no other threads, its own mount namespace. Mounts and unmounts of other
// processes propagate into it.
int rf_unshare_mounts(void);
// Disables core dumps of this process, and access to its memory by other processes of the same user.
void rf_forbid_dumps(void);
// Forks a process without other threads. The child gets 0, and is killed when the parent ends. The parent forwards
// signals and ends with the child's status; if the child gives up (rf_give_up) but the kernel cannot end it, the parent
// ends without it. -errno if fork fails.
int rf_continue_in_child(void);
// Ends the process with `status`. A process with a thread in an uninterruptible wait remains; its parent, from
// rf_continue_in_child, ends nevertheless.
_Noreturn void rf_give_up(int status);
// Registers a descriptor whose reader must see the end of a process that gives up, like the reader of its output.
void rf_tells(int fd);
// Whether standard output has taken everything printed through stdio so far.
int rf_is_output_whole(void);

int rf_reboot_restart(void);
int rf_reboot_poweroff(void);
int rf_reboot_disable_ctrl_alt_del(void);

// Descriptors that a child keeps under their numbers (3 or more), and the signal that it gets when the thread that
// started it ends (0: none).
struct rf_attachment {
    const int *kept;
    int kept_count;
    int death_signal;
};
// Starts argv in a new session or not, with the three descriptors given (-1: /dev/null) and the environment `envp`. All
// other descriptors are closed, but for those of `attachment` (NULL: none). Returns the process id or -errno (of exec
// too).
int rf_spawn(const char *const argv[], const char *const envp[], int in_fd, int out_fd, int err_fd, int events_fd,
             int new_session, int controlling_tty, const struct rf_attachment *attachment);

// The environment of a confined program: the mounts that become its root and its /dev, and a bit mask of the
// capabilities that it keeps.
struct rf_confinement {
    const char *root;
    const char *devices;
    uint64_t capabilities;
};
// Starts argv in its own namespaces, below their first process: all processes in them end with it, and it ends with the
// calling thread. It exits with the program's status, or with 128 plus the signal that ended the program. On failure,
// `step` names the failed step.
int rf_spawn_confined(const char *const argv[], const char *const envp[], int in_fd, int out_fd, int err_fd,
                      const struct rf_confinement *confinement, const char **step);

int rf_processor_count(void);
unsigned rf_major(uint64_t device);
unsigned rf_minor(uint64_t device);
