// SPDX-License-Identifier: GPL-3.0-or-later
#define _GNU_SOURCE
#include "CLinuxShims.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <linux/nbd.h>
#include <linux/openat2.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#ifndef BLKGETDISKSEQ // linux/fs.h since 5.15
#define BLKGETDISKSEQ _IOR(0x12, 128, uint64_t)
#endif

#define RESULT(call) ((call) < 0 ? -errno : 0)

int rf_o_direct(void) { return O_DIRECT; }
int rf_o_path(void) { return O_PATH; }

int rf_block_byte_count(int fd, uint64_t *out) { return RESULT(ioctl(fd, BLKGETSIZE64, out)); }
int rf_block_logical_sector(int fd, int *out) { return RESULT(ioctl(fd, BLKSSZGET, out)); }
int rf_block_physical_sector(int fd, unsigned *out) { return RESULT(ioctl(fd, BLKPBSZGET, out)); }
int rf_block_alignment_offset(int fd, int *out) { return RESULT(ioctl(fd, BLKALIGNOFF, out)); }
int rf_block_optimal_io(int fd, unsigned *out) { return RESULT(ioctl(fd, BLKIOOPT, out)); }
int rf_block_disk_sequence(int fd, uint64_t *out) { return RESULT(ioctl(fd, BLKGETDISKSEQ, out)); }
int rf_block_flush_buffers(int fd) { return RESULT(ioctl(fd, BLKFLSBUF, 0)); }
int rf_block_discard(int fd, uint64_t offset, uint64_t length) {
    uint64_t range[2] = {offset, length};
    return RESULT(ioctl(fd, BLKDISCARD, range));
}
int rf_block_zero_out(int fd, uint64_t offset, uint64_t length) {
    uint64_t range[2] = {offset, length};
    return RESULT(ioctl(fd, BLKZEROOUT, range));
}
int rf_block_reread_partitions(int fd) { return RESULT(ioctl(fd, BLKRRPART, 0)); }

static int partition_call(int fd, int operation, int number, uint64_t offset, uint64_t length) {
    struct blkpg_partition partition = {.start = (long long)offset, .length = (long long)length, .pno = number};
    struct blkpg_ioctl_arg argument = {.op = operation, .datalen = sizeof partition, .data = &partition};
    return RESULT(ioctl(fd, BLKPG, &argument));
}
int rf_block_add_partition(int fd, int number, uint64_t offset, uint64_t length) {
    return partition_call(fd, BLKPG_ADD_PARTITION, number, offset, length);
}
int rf_block_delete_partition(int fd, int number) { return partition_call(fd, BLKPG_DEL_PARTITION, number, 0, 0); }

int rf_fallocate_punch(int fd, uint64_t offset, uint64_t length) {
    return RESULT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length));
}
int rf_drop_cache(int fd, uint64_t offset, uint64_t length) {
    return -posix_fadvise(fd, (off_t)offset, (off_t)length, POSIX_FADV_DONTNEED);
}

int rf_loop_get_free(int control_fd) {
    int number = ioctl(control_fd, LOOP_CTL_GET_FREE);
    return number < 0 ? -errno : number;
}
int rf_loop_configure(int loop_fd, int backing_fd, uint64_t offset, uint64_t size_limit, unsigned block_size,
                      int read_only, const char *owner) {
    struct loop_config config = {.fd = (unsigned)backing_fd, .block_size = block_size};
    strncpy((char *)config.info.lo_file_name, owner, LO_NAME_SIZE - 1);
    config.info.lo_offset = offset;
    config.info.lo_sizelimit = size_limit;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
    return RESULT(ioctl(loop_fd, LOOP_CONFIGURE, &config));
}
int rf_loop_owner(int loop_fd, char owner[64]) {
    struct loop_info64 info;
    if (ioctl(loop_fd, LOOP_GET_STATUS64, &info) < 0) return -errno;
    memcpy(owner, info.lo_file_name, LO_NAME_SIZE);
    owner[LO_NAME_SIZE - 1] = 0;
    return 0;
}
int rf_loop_clear(int loop_fd) { return RESULT(ioctl(loop_fd, LOOP_CLR_FD, 0)); }

int rf_loop_backing(int loop_fd, uint64_t *device, uint64_t *inode, uint64_t *special) {
    struct loop_info64 info;
    if (ioctl(loop_fd, LOOP_GET_STATUS64, &info) < 0) return -errno;
    *device = info.lo_device;
    *inode = info.lo_inode;
    *special = info.lo_rdevice;
    return 0;
}

int rf_nbd_attach(int nbd_fd, int socket_fd, uint64_t byte_count, unsigned sector_size) {
    // EBUSY: another program's, which must not be cleared.
    if (ioctl(nbd_fd, NBD_SET_SOCK, (unsigned long)socket_fd) < 0) return -errno;
    if (ioctl(nbd_fd, NBD_SET_BLKSIZE, (unsigned long)sector_size) == 0 &&
        ioctl(nbd_fd, NBD_SET_SIZE_BLOCKS, (unsigned long)(byte_count / sector_size)) == 0 &&
        ioctl(nbd_fd, NBD_SET_FLAGS, (unsigned long)(NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY)) == 0 &&
        // No limit: the server has its own, and a slow store is no failed disk.
        ioctl(nbd_fd, NBD_SET_TIMEOUT, 0UL) == 0)
        return 0;
    int reason = errno;
    ioctl(nbd_fd, NBD_CLEAR_SOCK);
    return -reason;
}
int rf_nbd_run(int nbd_fd) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int result = RESULT(ioctl(nbd_fd, NBD_DO_IT));
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return result;
}
int rf_nbd_detach(int nbd_fd) {
    ioctl(nbd_fd, NBD_DISCONNECT);
    return RESULT(ioctl(nbd_fd, NBD_CLEAR_SOCK));
}

int rf_lock(int fd, int exclusive, uint64_t start, uint64_t length) {
    struct flock lock = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET, .l_start = (off_t)start,
                         .l_len = (off_t)length};
    return RESULT(fcntl(fd, F_OFD_SETLK, &lock));
}
int rf_lock_holder(int fd, int exclusive, uint64_t *start, uint64_t *length) {
    struct flock lock = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET, .l_start = (off_t)*start,
                         .l_len = (off_t)*length};
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0) return -errno;
    if (lock.l_type == F_UNLCK) return 0;
    *start = (uint64_t)lock.l_start;
    *length = (uint64_t)lock.l_len;
    return 1;
}

int rf_openat2(int dir_fd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    long fd;
    // openat2(2): a mount or rename anywhere on the machine during resolution of ".." makes it fail with EAGAIN. If
    // they occur constantly, this waits up to about a second for a gap between two.
    const struct timespec nap = {.tv_nsec = 100 * 1000};
    for (int attempt = 0; attempt < 10000; attempt++) {
        if ((fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof how)) >= 0 || errno != EAGAIN) break;
        if (attempt > 1000) nanosleep(&nap, NULL);
    }
    return fd < 0 ? -errno : (int)fd;
}
uint64_t rf_resolve_in_root(void) { return RESOLVE_IN_ROOT; }
uint64_t rf_resolve_no_magiclinks(void) { return RESOLVE_NO_MAGICLINKS; }

int rf_storage(const char *path) {
    struct statfs status;
    if (statfs(path, &status) != 0) {
        return 0;
    }
    switch ((uint32_t)status.f_type) {
        case TMPFS_MAGIC:
        case RAMFS_MAGIC:
            return 1;
        case EXT4_SUPER_MAGIC:
        case XFS_SUPER_MAGIC:
        case BTRFS_SUPER_MAGIC:
        case F2FS_SUPER_MAGIC:
        case MSDOS_SUPER_MAGIC:
        case 0x2011BAB0:  // exFAT; not in the headers of older kernels
            return 2;
        default:
            return 0;
    }
}

int rf_memfd_create(const char *name) {
    int fd = memfd_create(name, MFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int rf_accept(int fd) {
    int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    return connection < 0 ? -errno : connection;
}

int rf_open_unnamed(const char *folder, unsigned mode) {
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, (mode_t)mode);
    return fd < 0 ? -errno : fd;
}
int rf_link_unnamed(int fd, const char *path) {
    // AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH.
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return RESULT(linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW));
}

int rf_rename_new(const char *old_path, const char *new_path) {
    return RESULT(renameat2(AT_FDCWD, old_path, AT_FDCWD, new_path, RENAME_NOREPLACE));
}

int rf_rename_new_at(int folder, const char *old_name, const char *new_name) {
    return RESULT(renameat2(folder, old_name, folder, new_name, RENAME_NOREPLACE));
}
int rf_syncfs(int fd) { return RESULT(syncfs(fd)); }
ssize_t rf_list_attributes(const char *path, char *buffer, size_t size) { return listxattr(path, buffer, size); }
ssize_t rf_get_attribute(const char *path, const char *name, char *buffer, size_t size) {
    return getxattr(path, name, buffer, size);
}
int rf_set_attribute(const char *path, const char *name, const void *value, size_t size) {
    return lsetxattr(path, name, value, size, 0);
}

int rf_mount(const char *source, const char *target, const char *type, uint64_t flags, const char *data) {
    return RESULT(mount(source, target, type, flags, data));
}
int rf_umount(const char *target, int lazy) { return RESULT(umount2(target, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0))); }
uint64_t rf_ms_rdonly(void) { return MS_RDONLY; }
uint64_t rf_ms_nosuid(void) { return MS_NOSUID; }
uint64_t rf_ms_nodev(void) { return MS_NODEV; }
uint64_t rf_ms_noexec(void) { return MS_NOEXEC; }
uint64_t rf_ms_bind(void) { return MS_BIND; }
uint64_t rf_ms_rec(void) { return MS_REC; }

int rf_unshare_mounts(void) {
    if (unshare(CLONE_NEWNS) < 0) return -errno;
    return RESULT(mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL));
}
void rf_forbid_dumps(void) {
    // A limit of one byte: no core file fits, and only a limit of exactly 1 prevents a piped core_pattern program
    // (core(5)).
    struct rlimit none = {1, 1};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
// The signals that the parent of rf_continue_in_child waits for. A child that gives up sends SIGUSR1.
static void awaited_signals(sigset_t *set) {
    const int numbers[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU, SIGUSR1};
    sigemptyset(set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaddset(set, numbers[i]);
}

static _Noreturn void end_as(int status) {
    if (WIFEXITED(status)) _exit(WEXITSTATUS(status));
    int number = WTERMSIG(status);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    signal(number, SIG_DFL);
    raise(number);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    // PID 1 of a container ignores the default action of the signal.
    _exit(128 + number);
}

static _Noreturn void attend(pid_t child, const sigset_t *awaited) {
    for (;;) {
        int status;
        siginfo_t info;
        if (waitpid(child, &status, WNOHANG) == child) end_as(status);
        int number = sigwaitinfo(awaited, &info);
        if (number < 0 || number == SIGCHLD) continue;
        if (number == SIGUSR1) {
            if (info.si_code != SI_QUEUE || info.si_pid != child) continue;
            sigset_t ended;
            sigemptyset(&ended);
            sigaddset(&ended, SIGCHLD);
            struct timespec patience = {0, 200000000};
            sigtimedwait(&ended, NULL, &patience);
            _exit(info.si_value.sival_int);
        }
        // The kernel sends the signals of a terminal to both processes, except the hangup, which only the session
        // leader gets (tty_ioctl(4)).
        if (info.si_code != SI_KERNEL || number == SIGHUP) kill(child, number);
    }
}

static pid_t attendant;
// The descriptor on which a program reads events; -1: none.
static int told = -1;

void rf_tells(int fd) { told = fd; }

int rf_continue_in_child(void) {
    sigset_t awaited, old;
    awaited_signals(&awaited);
    sigprocmask(SIG_BLOCK, &awaited, &old);
    // If the parent process ignored it, children would be reaped unseen.
    signal(SIGCHLD, SIG_DFL);
    pid_t parent = getpid();
    pid_t child = fork();
    if (child > 0) attend(child, &awaited);
    int error = errno;
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (child < 0) return -error;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // 0: the child is the first process of a new PID namespace, and its parent is outside.
    pid_t now = getppid();
    if (now != parent && now != 0) _exit(128 + SIGKILL);
    attendant = parent;
    return 0;
}

_Noreturn void rf_give_up(int status) {
    // The process may remain with open descriptors, but readers of its output must see their end.
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; null_fd >= 0 && i < 3; i++) dup2(null_fd, i);
    if (null_fd >= 0 && told >= 0) dup2(null_fd, told);
    if (attendant) sigqueue(attendant, SIGUSR1, (union sigval){.sival_int = status});
    _exit(status);
}

int rf_is_output_whole(void) { return fflush(stdout) == 0 && !ferror(stdout); }

int rf_reboot_restart(void) { return RESULT(reboot(RB_AUTOBOOT)); }
int rf_reboot_poweroff(void) { return RESULT(reboot(RB_POWER_OFF)); }
int rf_reboot_disable_ctrl_alt_del(void) { return RESULT(reboot(RB_DISABLE_CAD)); }

// Runs in the child. It shares the parent's memory (vfork), so it must not change it; it makes only async-signal-safe
// calls, because the parent has threads.
static _Noreturn void run_child(const char *const argv[], const char *const envp[], int in_fd, int out_fd, int err_fd,
                                int events_fd, int new_session, int controlling_tty,
                                const struct rf_attachment *attachment, pid_t parent, int report) {
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int wanted[3] = {in_fd < 0 ? null_fd : in_fd, out_fd < 0 ? null_fd : out_fd, err_fd < 0 ? null_fd : err_fd};
    // Lift all three above 2 first, so that one dup2 cannot overwrite the source of another.
    for (int i = 0; i < 3; i++)
        if ((wanted[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, 10)) < 0) goto failed;
    int events = events_fd < 0 ? -1 : fcntl(events_fd, F_DUPFD_CLOEXEC, 10);
    if (events_fd >= 0 && events < 0) goto failed;
    int report_fd = fcntl(report, F_DUPFD_CLOEXEC, 10);
    if (report_fd < 0) goto failed;
    report = report_fd;
    for (int i = 0; i < 3; i++)
        if (dup2(wanted[i], i) < 0) goto failed;
    // Everything else closes at exec, even descriptors opened without O_CLOEXEC.
    syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
    if (events >= 0 && dup2(events, 3) < 0) goto failed;
    for (int i = 0; attachment && i < attachment->kept_count; i++)
        if (fcntl(attachment->kept[i], F_SETFD, 0) < 0) goto failed;
    if (attachment && attachment->death_signal) {
        if (prctl(PR_SET_PDEATHSIG, attachment->death_signal) < 0) goto failed;
        // A parent that ended before the call sends nothing.
        if (getppid() != parent) _exit(127);
    }
    if (new_session && setsid() < 0) goto failed;
    if (controlling_tty && ioctl(0, TIOCSCTTY, 1) < 0) goto failed;
    for (int signal_number = 1; signal_number < NSIG; signal_number++) signal(signal_number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvpe(argv[0], (char *const *)argv, (char *const *)envp);
failed:;
    int error = errno;
    ssize_t ignored = write(report, &error, sizeof error);
    (void)ignored;
    _exit(127);
}

int rf_spawn(const char *const argv[], const char *const envp[], int in_fd, int out_fd, int err_fd, int events_fd,
             int new_session, int controlling_tty, const struct rf_attachment *attachment) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0) return -errno;
    sigset_t all, old;
    sigfillset(&all);
    // No signal handler of this process may run in the child before exec.
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t parent = getpid();
    // Not fork, which copies the page tables: in a large process, that took longer than the work of the children.
    pid_t pid = vfork();
    if (pid == 0)
        run_child(argv, envp, in_fd, out_fd, err_fd, events_fd, new_session, controlling_tty, attachment, parent,
                  report[1]);
    int fork_error = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return -fork_error;
    }
    int child_error = 0;
    ssize_t count;
    do count = read(report[0], &child_error, sizeof child_error);
    while (count < 0 && errno == EINTR);
    close(report[0]);
    if (count == sizeof child_error) {
        waitpid(pid, NULL, 0);
        return -child_error;
    }
    return pid;
}

int rf_processor_count(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) < 0 ? 1 : CPU_COUNT(&set);
}
unsigned rf_major(uint64_t device) { return major(device); }
unsigned rf_minor(uint64_t device) { return minor(device); }
