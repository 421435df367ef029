// SPDX-License-Identifier: GPL-3.0-or-later
internal import CBlkid
internal import LinuxSystem
internal import SystemPackage

/// What libblkid says about a volume: the library that the rest of the system goes by.
///
/// It reads through a file descriptor, so there is no second opinion on a volume in memory.
public struct SecondOpinion: Sendable {
    /// What it found.
    public enum Finding: Equatable, Sendable {
        /// Nothing that it knows.
        case nothing
        /// One thing, by its TYPE (`ext4`, `vfat`, `crypto_LUKS`, …), with UUID and LABEL where it names them.
        case found(kindName: String, uuid: String?, label: String?)
        /// Several things that exclude each other: signatures of an earlier life of the volume.
        case ambivalent
        /// It could not look.
        case failed
    }

    /// The descriptor of the disk; it must stay open while this value is used.
    public let descriptor: Int32
    /// Where the volume starts on it, in bytes.
    public let offset: UInt64

    /// The opinion on what lies from `offset` (bytes) of an open descriptor on.
    public init(descriptor: Int32, offset: UInt64 = 0) {
        self.descriptor = descriptor
        self.offset = offset
    }

    /// The same for a part that starts `distance` bytes further on.
    public func shifted(up distance: UInt64) -> SecondOpinion {
        SecondOpinion(descriptor: descriptor, offset: offset.addingReportingOverflow(distance).partialValue)
    }

    /// Looks at a volume of `byteCount` bytes.
    ///
    /// The corresponding C functions are `blkid_do_safeprobe` and `blkid_probe_filter_superblocks_type`.
    /// - Parameter known: a kind (TYPE) that it is not to look for.
    public func finding(byteCount: UInt64, besides known: String? = nil) -> Finding {
        // An open file of its own: libblkid seeks (two threads would read each other's places), and switches read-ahead
        // off (POSIX_FADV_RANDOM), which the capture that follows would feel.
        guard let own = try? OwnedDescriptor.open(FilePath("/proc/self/fd/\(descriptor)"), .readOnly) else {
            return .failed
        }
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
            // The names are only read.
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
        // The length counts the NUL that ends it.
        let bytes = unsafe UnsafeRawBufferPointer(start: data, count: byteCount)
        return String(decoding: unsafe Array(bytes).prefix { $0 != 0 }, as: UTF8.self)
    }
}
