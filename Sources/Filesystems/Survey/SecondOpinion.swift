// SPDX-License-Identifier: GPL-3.0-or-later
import CBlkid
import LinuxSystem
import SystemPackage

/// A volume's kind according to libblkid, the library that the rest of the system uses.
///
/// It reads through a file descriptor, so volumes in memory have no second opinion.
package struct SecondOpinion: Sendable {
    /// The result of libblkid.
    package enum Finding: Equatable, Sendable {
        /// No known signature.
        case nothing
        /// One kind, by its TYPE (`ext4`, `vfat`, `crypto_LUKS`, …), with UUID and LABEL if known.
        case found(kindName: String, uuid: String?, label: String?)
        /// Several kinds that exclude each other: signatures of older content of the volume.
        case ambivalent
        /// libblkid failed.
        case failed
    }

    /// The descriptor of the disk; it must stay open while this value is used.
    package let descriptor: Int32
    /// The start of the volume on the disk, in bytes.
    package let offset: UInt64

    /// The opinion on the volume from `offset` (bytes) of an open descriptor on.
    package init(descriptor: Int32, offset: UInt64 = 0) {
        self.descriptor = descriptor
        self.offset = offset
    }

    /// The opinion on a part that starts `distance` bytes later.
    package func shifted(up distance: UInt64) -> SecondOpinion {
        SecondOpinion(descriptor: descriptor, offset: offset.addingReportingOverflow(distance).partialValue)
    }

    /// Probes a volume of `byteCount` bytes.
    ///
    /// The corresponding C functions are `blkid_do_safeprobe` and `blkid_probe_filter_superblocks_type`.
    /// - Parameter known: a kind (TYPE) that is excluded from the search.
    package func finding(byteCount: UInt64, besides known: String? = nil) -> Finding {
        // A separate open file: libblkid seeks (two threads would disturb each other's positions), and switches
        // read-ahead off (POSIX_FADV_RANDOM), which would slow down the capture that follows.
        guard let own = try? OwnedDescriptor.open(FilePath("/proc/self/fd/\(descriptor)"), .readOnly) else {
            return .failed
        }
        let calls = PendingCalls(
            Files.linkTarget(FilePath("/proc/self/fd/\(descriptor)")) ?? "a disk",
            on: FileDescriptor(rawValue: descriptor))
        let finding = calls.during(.read) { Self.finding(own, offset: offset, byteCount: byteCount, besides: known) }
        guard finding == .failed, let ends = calls.during(.read, { endsInMemory(byteCount: byteCount) }) else {
            return finding
        }
        return Self.finding(ends, offset: 0, byteCount: byteCount, besides: known)
    }

    /// Nearly all formats have their signatures in this much of either end of a volume.
    private static let endByteCount: UInt64 = 4 << 20

    /// A file in memory with the ends of the volume, zeros for unreadable sectors, and a hole between them.
    ///
    /// Otherwise one bad sector in an unused place would fail libblkid's search, and a failing disk would be read
    /// completely. A format with structures elsewhere is not found: the opinion is missing, not wrong.
    /// - Returns: `nil` if all of this can be read: libblkid failed for another reason.
    private func endsInMemory(byteCount: UInt64) -> OwnedDescriptor? {
        guard let memory = try? OwnedDescriptor.memory("volume", byteCount: byteCount) else { return nil }
        let first = 0..<min(byteCount, Self.endByteCount)
        let last = max(first.upperBound, byteCount - first.upperBound)..<byteCount
        var isDamaged = false
        for area in [first, last] {
            for start in stride(from: area.lowerBound, to: area.upperBound, by: 64 << 10) {
                let piece = start..<min(start + 64 << 10, area.upperBound)
                if copy(piece, to: memory) { continue }
                isDamaged = true
                for sector in stride(from: piece.lowerBound, to: piece.upperBound, by: 512) {
                    _ = copy(sector..<min(sector + 512, piece.upperBound), to: memory)
                }
            }
        }
        guard isDamaged else { return nil }
        return memory
    }

    private func copy(_ range: Range<UInt64>, to memory: borrowing OwnedDescriptor) -> Bool {
        let (start, overflow) = offset.addingReportingOverflow(range.lowerBound)
        guard !overflow, let from = Int64(exactly: start), let to = Int64(exactly: range.lowerBound) else {
            return false
        }
        do {
            let bytes = unsafe try [UInt8](unsafeUninitializedCapacity: Int(range.upperBound - range.lowerBound)) {
                buffer, count in
                count = unsafe try FileDescriptor(rawValue: descriptor).read(
                    fromAbsoluteOffset: from, into: UnsafeMutableRawBufferPointer(buffer))
            }
            guard bytes.count == Int(range.upperBound - range.lowerBound) else { return false }
            return try FileDescriptor(rawValue: memory.raw.rawValue).writeAll(toAbsoluteOffset: to, bytes)
                == bytes.count
        } catch {
            return false
        }
    }

    private static func finding(
        _ own: borrowing OwnedDescriptor, offset: UInt64, byteCount: UInt64, besides known: String?
    ) -> Finding {
        guard let probe = unsafe blkid_new_probe() else { return .failed }
        defer { unsafe blkid_free_probe(probe) }
        guard
            unsafe blkid_probe_set_device(
                probe, own.raw.rawValue, blkid_loff_t(clamping: offset), blkid_loff_t(clamping: byteCount)) == 0,
            unsafe blkid_probe_enable_superblocks(probe, 1) == 0,
            unsafe blkid_probe_set_superblocks_flags(
                probe, Int32(BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID | BLKID_SUBLKS_LABEL)) == 0
        else { return .failed }
        if let known, unsafe !Self.exclude(known, from: probe) { return .failed }
        // libblkid.h: 0 on success, 1 when nothing is detected, -2 if ambivalent result is detected and -1 on error.
        switch unsafe blkid_do_safeprobe(probe) {
        case 0:
            guard let kindName = unsafe Self.value("TYPE", of: probe) else { return .nothing }
            return .found(
                kindName: kindName, uuid: unsafe Self.value("UUID", of: probe),
                label: unsafe Self.value("LABEL", of: probe))
        case 1: return .nothing
        case -2: return .ambivalent
        default: return .failed
        }
    }

    private static func exclude(_ kindName: String, from probe: blkid_probe) -> Bool {
        unsafe kindName.withCString { name in
            // The names are never written.
            var names = unsafe [UnsafeMutablePointer(mutating: name), nil]
            return unsafe blkid_probe_filter_superblocks_type(probe, BLKID_FLTR_NOTIN, &names) == 0
        }
    }

    private static func value(_ name: String, of probe: blkid_probe) -> String? {
        var data: UnsafePointer<CChar>?
        var byteCount = 0
        guard unsafe blkid_probe_lookup_value(probe, name, &data, &byteCount) == 0, let data = unsafe data else {
            return nil
        }
        // The length includes the terminating NUL.
        let bytes = unsafe UnsafeRawBufferPointer(start: data, count: byteCount)
        return String(decoding: unsafe Array(bytes).prefix { $0 != 0 }, as: UTF8.self)
    }
}
