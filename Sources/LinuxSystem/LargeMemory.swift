// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

/// Memory for large contents with random access.
package enum LargeMemory {
    private static let hugePageByteCount = 2 << 20

    /// Page-aligned memory (O_DIRECT requires it), in huge pages where the kernel has some: a match finder with random
    /// access to 8 MiB should miss fewer address translations. Measured only with the whole heap in huge pages
    /// (glibc.malloc.hugetlb=1): 5 % less processor time for a capture, the median of eight noisy pairs (-8 to +8 %).
    /// Must be freed with `release`.
    ///
    /// The corresponding C function is `posix_memalign`.
    package static func allocate(byteCount: Int) throws(SystemCallError) -> UnsafeMutableRawBufferPointer {
        let isHuge = byteCount >= hugePageByteCount
        var memory: UnsafeMutableRawPointer?
        let result = posix_memalign(&memory, isHuge ? hugePageByteCount : 4096, byteCount)
        guard result == 0, let memory else { throw lack(of: byteCount) }
        // Advice: a kernel without huge pages rejects it, at no cost.
        if isHuge { madvise(memory, byteCount & ~4095, MADV_HUGEPAGE) }
        return UnsafeMutableRawBufferPointer(start: memory, count: byteCount)
    }

    /// Frees the memory.
    package static func release(_ memory: UnsafeMutableRawBufferPointer) { free(memory.baseAddress) }

    /// Fails if a limit of this process leaves less than `byteCount` bytes. Swift ends the process where a small
    /// allocation fails, so large ones must leave room for those.
    ///
    /// The corresponding C function is `getrlimit` (RLIMIT_AS and RLIMIT_DATA).
    package static func require(byteCount: Int) throws(SystemCallError) {
        let pages = (Files.text("/proc/self/statm") ?? "").split(separator: " ").compactMap { UInt64($0) }
        // statm(5): the whole address space first, data and stack sixth.
        for (limit, field) in [(RLIMIT_AS, 0), (RLIMIT_DATA, 5)] where pages.count > field {
            var value = rlimit()
            guard getrlimit(Int32(limit.rawValue), &value) == 0, value.rlim_cur != rlim_t.max else { continue }
            let most = UInt64(value.rlim_cur)
            let (used, overflow) = pages[field].multipliedReportingOverflow(by: UInt64(sysconf(Int32(_SC_PAGESIZE))))
            guard !overflow, most > used, most - used >= UInt64(byteCount) else {
                throw lack(of: byteCount)
            }
        }
    }

    private static func lack(of byteCount: Int) -> SystemCallError {
        SystemCallError("get", "\((byteCount + (1 << 20) - 1) >> 20) MiB of memory", .noMemory)
    }
}
