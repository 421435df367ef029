// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc

/// Memory for long contents that are read in no order.
public enum LargeMemory {
    private static let hugePageByteCount = 2 << 20

    /// Memory aligned to pages (as O_DIRECT wants it), in huge pages where the kernel has some to give: a match finder that
    /// jumps about in 8 MiB should miss fewer address translations. Measured only with the whole heap in huge pages
    /// (glibc.malloc.hugetlb=1): 5 % less processor time for a capture, the median of eight noisy pairs (-8 to +8 %).
    /// Give it back with `deallocate()`.
    public static func allocate(byteCount: Int) -> UnsafeMutableRawBufferPointer {
        guard byteCount >= hugePageByteCount else { return .allocate(byteCount: byteCount, alignment: 4096) }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: hugePageByteCount)
        // Advice: a kernel without huge pages says no, and nothing is lost.
        madvise(memory.baseAddress, byteCount & ~4095, MADV_HUGEPAGE)
        return memory
    }
}
