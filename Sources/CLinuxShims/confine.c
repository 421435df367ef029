// SPDX-License-Identifier: GPL-3.0-or-later
// Runs a program of a foreign system in its own namespaces. Between clone and exec, only async-signal-safe calls are
// made: the parent has threads, and the child is a copy of it.
#define _GNU_SOURCE
#include "CLinuxShims.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_open_tree // linux 5.2
#define SYS_open_tree 428
#define SYS_move_mount 429
#endif
#ifndef SYS_mount_setattr // linux 5.12
#define SYS_mount_setattr 442
#endif

// MARK: the filter

#if defined(__x86_64__)
#define OWN_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "no seccomp architecture for this processor"
#endif

// mseal: later calls are unknown here and may include further ways to mount.
enum { LAST_KNOWN_CALL = 462 };
enum { NAMESPACE_FLAGS = 0x7E020000 }; // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET

struct filter {
    unsigned short count;
    struct sock_filter code[320];
};

static void emit(struct filter *filter, unsigned short code, unsigned value, unsigned char yes, unsigned char no) {
    struct sock_filter line = {code, yes, no, value};
    if (filter->count < sizeof filter->code / sizeof *filter->code) filter->code[filter->count++] = line;
}
static void load(struct filter *filter, unsigned offset) { emit(filter, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0); }
static void give(struct filter *filter, unsigned answer) { emit(filter, BPF_RET | BPF_K, answer, 0, 0); }
// Returns `answer` if the accumulator is `value`.
static void match(struct filter *filter, unsigned value, unsigned answer) {
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    give(filter, answer);
}

#define ARGUMENT(number) (offsetof(struct seccomp_data, args) + (number) * 8)
#define REFUSED (SECCOMP_RET_ERRNO | EPERM)
#define UNKNOWN (SECCOMP_RET_ERRNO | ENOSYS)
#define PRETENDED (SECCOMP_RET_ERRNO | 0)

// Mounts, namespaces, the kernel's code, other processes, keys, swap, power: refused regardless of capabilities.
static const int refused_calls[] = {
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_open_tree, SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount,
    SYS_fspick, SYS_mount_setattr, SYS_setns, SYS_unshare, SYS_bpf, SYS_kexec_load, SYS_kexec_file_load,
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev,
    SYS_kcmp, SYS_pidfd_getfd, SYS_perf_event_open, SYS_userfaultfd, SYS_add_key, SYS_request_key, SYS_keyctl,
    SYS_open_by_handle_at, SYS_swapon, SYS_swapoff, SYS_reboot, SYS_quotactl, SYS_quotactl_fd, SYS_fanotify_init,
    SYS_acct, SYS_syslog, SYS_vhangup,
#ifdef SYS_iopl
    SYS_iopl, SYS_ioperm,
#endif
};

// Device-mapper looks at an ioctl's type and number only, so the two low bytes decide here as well.
static const int allowed_ioctls[] = {
    0xFD00, 0xFD02, 0xFD07, 0xFD0B, 0xFD0C, // DM_VERSION, DM_LIST_DEVICES, DM_DEV_STATUS, DM_TABLE_DEPS, DM_TABLE_STATUS
    0x4C03, 0x4C05,                         // LOOP_GET_STATUS, LOOP_GET_STATUS64
    0x0910, 0x0911, 0x0912, 0x0915,         // RAID_VERSION, GET_ARRAY_INFO, GET_DISK_INFO, GET_BITMAP_FILE
    0x5200,                                 // RNDGETENTCNT
};
static const int refused_ioctls[] = {
    0x1269, 0x125F, 0x125D, // BLKPG, BLKRRPART, BLKROSET
    0x5412, 0x541C, 0x541D, // TIOCSTI, TIOCLINUX, TIOCCONS
    0x5877, 0x5878, 0x587D, // FIFREEZE, FITHAW, FS_IOC_SHUTDOWN
};
// Device-mapper, loop, md, NVMe commands, SCSI generic, SCSI and CD-ROM, persistent reservations, random.
static const int refused_ioctl_types[] = {0xFD, 0x4C, 0x09, 0x4E, 0x22, 0x53, 0x70, 0x52};

#define EACH(table) for (size_t i = 0; i < sizeof(table) / sizeof *(table); i++)

static int install_filter(void) {
    struct filter filter = {0};
    load(&filter, offsetof(struct seccomp_data, arch));
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCHITECTURE, 1, 0);
    give(&filter, SECCOMP_RET_KILL_PROCESS);
    load(&filter, offsetof(struct seccomp_data, nr));
    // This also refuses the other calls of x32: their numbers begin at bit 30.
    emit(&filter, BPF_JMP | BPF_JGT | BPF_K, LAST_KNOWN_CALL, 0, 1);
    give(&filter, UNKNOWN);
    // These calls hide their arguments from a filter; programs fall back to clone and read.
    match(&filter, SYS_clone3, UNKNOWN);
    match(&filter, SYS_io_uring_setup, UNKNOWN);
    EACH(refused_calls) match(&filter, (unsigned)refused_calls[i], REFUSED);
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4);
    load(&filter, ARGUMENT(0));
    emit(&filter, BPF_JMP | BPF_JSET | BPF_K, NAMESPACE_FLAGS, 0, 1);
    give(&filter, REFUSED);
    give(&filter, SECCOMP_RET_ALLOW);
    // Not bound to a network namespace on most kernels.
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 4);
    load(&filter, ARGUMENT(0));
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, AF_VSOCK, 0, 1);
    give(&filter, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
    give(&filter, SECCOMP_RET_ALLOW);
    // The core dump limit stays: at 0, the machine's handler, a root process outside of the confinement, would run
    // again. Calls that set it report success without effect, because gpg exits if it cannot set it. Reading it is
    // allowed.
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_setrlimit, 0, 4);
    load(&filter, ARGUMENT(0));
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, RLIMIT_CORE, 0, 1);
    give(&filter, PRETENDED);
    give(&filter, SECCOMP_RET_ALLOW);
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 8);
    load(&filter, ARGUMENT(1));
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, RLIMIT_CORE, 0, 5);
    load(&filter, ARGUMENT(2));
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2);
    load(&filter, ARGUMENT(2) + 4);
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
    give(&filter, PRETENDED);
    give(&filter, SECCOMP_RET_ALLOW);
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0);
    give(&filter, SECCOMP_RET_ALLOW);
    load(&filter, ARGUMENT(1));
    emit(&filter, BPF_ALU | BPF_AND | BPF_K, 0xFFFF, 0, 0);
    EACH(allowed_ioctls) match(&filter, (unsigned)allowed_ioctls[i], SECCOMP_RET_ALLOW);
    EACH(refused_ioctls) match(&filter, (unsigned)refused_ioctls[i], REFUSED);
    emit(&filter, BPF_ALU | BPF_RSH | BPF_K, 8, 0, 0);
    EACH(refused_ioctl_types) match(&filter, (unsigned)refused_ioctl_types[i], REFUSED);
    give(&filter, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {filter.count, filter.code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

// MARK: capabilities

static int keep_capabilities(uint64_t kept) {
    for (int number = 0; number < 64; number++)
        if (!(kept >> number & 1) && prctl(PR_CAPBSET_DROP, number) < 0) {
            if (errno != EINVAL) return -1;
            break; // The kernel has no more of them.
        }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return -1;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct now[2];
    if (syscall(SYS_capget, &header, now) < 0) return -1;
    for (int half = 0; half < 2; half++) {
        now[half].permitted &= (uint32_t)(kept >> 32 * half);
        now[half].effective = now[half].permitted;
        now[half].inheritable = 0;
    }
    return (int)syscall(SYS_capset, &header, now);
}

// MARK: between clone and exec

struct report {
    int error;
    const char *step;
};

// Makes three descriptors 0 to 2 and the report 3, and closes all others inherited from the parent.
static int take_descriptors(const int given[3], int *report) {
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int lifted[3];
    for (int i = 0; i < 3; i++)
        if ((lifted[i] = fcntl(given[i] < 0 ? null_fd : given[i], F_DUPFD_CLOEXEC, 10)) < 0) return -1;
    int lifted_report = fcntl(*report, F_DUPFD_CLOEXEC, 10);
    if (lifted_report < 0) return -1;
    for (int i = 0; i < 3; i++)
        if (dup2(lifted[i], i) < 0) return -1;
    if (dup2(lifted_report, 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) < 0) return -1;
    *report = 3;
    return (int)syscall(SYS_close_range, 4, ~0U, 0);
}

// Makes the current folder, which is its own mount, the root.
static int enter_root(void) {
    if (syscall(SYS_pivot_root, ".", ".") == 0) return umount2(".", MNT_DETACH);
    // An initramfs cannot be unmounted: it is covered, and no confined process may unmount the cover.
    if (errno != EINVAL) return -1;
    return mount(".", "/", NULL, MS_MOVE, NULL) < 0 ? -1 : chroot(".");
}

static int mount_system(const char *type, const char *target, unsigned long flags, const char *data) {
    return mount(type, target, type, flags, data);
}

#define STEP(name, call) \
    if (step = (name), (call) < 0) goto failed

static _Noreturn void run_confined(const char *const argv[], const char *const envp[], const int given[3], int report,
                                   const struct rf_confinement *confinement) {
    const char *step;
    STEP("take its descriptors", take_descriptors(given, &report));
    STEP("make a session", setsid());
    STEP("end with its parent", prctl(PR_SET_PDEATHSIG, SIGKILL));
    // A parent that ended before that call left no reader of the report.
    struct pollfd reader = {.fd = report};
    if (poll(&reader, 1, 0) != 0) _exit(127);
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    // Unmounts of the machine propagate into this namespace; mounts in it propagate nowhere.
    STEP("take its mounts", mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
    int devices = (int)syscall(SYS_open_tree, AT_FDCWD, confinement->devices, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    STEP("take its devices", devices);
    STEP("enter its root", chdir(confinement->root));
    STEP("enter its root", enter_root());
    STEP("enter its root", chdir("/"));
    // From here on, no link leads out of the new root.
    unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    STEP("show its devices in", syscall(SYS_move_mount, devices, "", AT_FDCWD, "/dev", MOVE_MOUNT_F_EMPTY_PATH));
    close(devices);
    // Read-only, including /proc/sys and sysrq-trigger. hidepid hides this process, which has a copy of the parent's
    // memory: newer kernels show parts of it to CAP_SYS_ADMIN, dumpable or not.
    STEP("mount /proc in", mount_system("proc", "/proc", plain | MS_RDONLY, "hidepid=4"));
    STEP("mount /sys in", mount_system("sysfs", "/sys", plain | MS_RDONLY, NULL));
    STEP("mount /run in", mount_system("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755,size=16m"));
    // core(5): only a limit of 1 prevents the machine's handler from being started.
    struct rlimit core = {1, 1};
    STEP("limit", setrlimit(RLIMIT_CORE, &core));
    STEP("drop capabilities of", keep_capabilities(confinement->capabilities));
    // This process holds a copy of the parent's memory, with its keys.
    STEP("close", prctl(PR_SET_DUMPABLE, 0));
    STEP("confine", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    STEP("filter the calls of", install_filter());
    // Not fork(3): its handlers take locks that another thread of the parent may have held.
    pid_t program = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    STEP("start", program);
    if (program == 0) {
        step = "start";
        // The program is looked up on its own environment's PATH, in its own root.
        environ = (char **)envp;
        execvp(argv[0], (char *const *)argv);
        goto failed;
    }
    // PID 1 of its namespace: when it ends, all others end.
    syscall(SYS_close_range, 0, ~0U, 0);
    int status;
    pid_t ended;
    do ended = wait4(-1, &status, 0, NULL);
    while (ended != program && (ended > 0 || errno == EINTR));
    _exit(ended != program ? 127 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
failed:;
    struct report failure = {errno, step};
    ssize_t ignored = write(report, &failure, sizeof failure);
    (void)ignored;
    _exit(127);
}

int rf_spawn_confined(const char *const argv[], const char *const envp[], int in_fd, int out_fd, int err_fd,
                      const struct rf_confinement *confinement, const char **step) {
    int report[2];
    *step = "start";
    if (pipe2(report, O_CLOEXEC) < 0) return -errno;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    unsigned long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
    pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        int given[3] = {in_fd, out_fd, err_fd};
        close(report[0]);
        run_confined(argv, envp, given, report[1], confinement);
    }
    int clone_error = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        *step = "make namespaces for";
        return -clone_error;
    }
    struct report failure;
    ssize_t count;
    do count = read(report[0], &failure, sizeof failure);
    while (count < 0 && errno == EINTR);
    close(report[0]);
    if (count == sizeof failure) {
        waitpid(pid, NULL, 0);
        *step = failure.step;
        return -failure.error;
    }
    return pid;
}
