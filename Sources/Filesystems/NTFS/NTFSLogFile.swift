// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Whether $LogFile contains changes that are not yet in place (RESTART_PAGE_HEADER and
/// RESTART_AREA of ntfs-3g's logfile.h).
enum NTFSLogFile {
    /// The length that is read of emptied logs: it includes both restart pages and the first records.
    private static let emptyByteCount: UInt64 = 1 << 20
    /// The largest page size of all machines supported by Windows.
    private static let largestPage = 65536

    private struct RestartPage {
        /// current_lsn: the page that was written last has the larger one.
        let sequenceNumber: UInt64
        let majorVersion: UInt16
        let minorVersion: UInt16
        let isClean: Bool
    }

    /// Why the log is not clean, as a sentence part; `nil` if it is.
    static func problem(_ log: NTFSStream) throws(FilesystemError) -> String? {
        if try isEmptied(log) { return nil }
        let head = try log.read(at: 0, count: Int(min(log.byteCount, UInt64(2 * largestPage))))
        let pages: [RestartPage]
        do throws(ParsingError) {
            // system_page_size locates the second one.
            let pageSize = Int(try head.littleEndian(UInt32.self, at: 16))
            guard pageSize >= 512, pageSize <= largestPage, pageSize.nonzeroBitCount == 1 else {
                return "its log has no valid restart page"
            }
            pages = [
                try restartPage(try head.bytes(at: 0, count: pageSize)),
                try restartPage(try head.bytes(at: pageSize, count: pageSize)),
            ]
        } catch {
            return "its log has no two valid restart pages: \(error)"
        }
        // A dismount leaves two equal ones; where they differ, the later one counts, or both if that is open.
        let last = pages.map(\.sequenceNumber).max() ?? 0
        for page in pages where page.sequenceNumber == last {
            switch (page.majorVersion, page.minorVersion) {
            case (1, 1): break
            case (2, 0):
                // Windows 8 and later go back to 1.1 when they dismount a volume ("Windows 8 volume compatibility
                // considerations with prior versions of Windows").
                return "Windows did not dismount it: fast startup, hibernation, or it was pulled out"
            default: return "the version \(page.majorVersion).\(page.minorVersion) of its log is not known"
            }
            if !page.isClean { return "its log holds changes not yet in place" }
        }
        return nil
    }

    /// Whether it is empty: as left by ntfs3 and ntfsresize, by ntfs-3g after a recovery, and by mkntfs.
    private static func isEmptied(_ log: NTFSStream) throws(FilesystemError) -> Bool {
        for byteCount in [4096, min(log.byteCount, emptyByteCount)] {
            guard try log.read(at: 0, count: Int(byteCount)).allSatisfy({ $0 == 0xFF }) else { return false }
        }
        return true
    }

    private static func restartPage(_ raw: [UInt8]) throws(ParsingError) -> RestartPage {
        let bytes = try NTFSRecord.undoingUpdateSequence(raw, magic: "RSTR")
        let area = Int(try bytes.littleEndian(UInt16.self, at: 24))  // restart_area_offset
        guard area % 8 == 0, area >= 30 else { throw .invalid(what: "the place of a restart area") }
        let clients = try bytes.littleEndian(UInt16.self, at: area + 8)  // log_clients
        let inUse = try bytes.littleEndian(UInt16.self, at: area + 12)  // client_in_use_list
        guard inUse == .max || inUse < clients else { throw .invalid(what: "the list of a log's clients") }
        let flags = try bytes.littleEndian(UInt16.self, at: area + 14)
        return RestartPage(
            sequenceNumber: try bytes.littleEndian(at: area),
            majorVersion: try bytes.littleEndian(at: 28), minorVersion: try bytes.littleEndian(at: 26),
            // LOGFILE_NO_CLIENT: it is not open. RESTART_VOLUME_IS_CLEAN: since Windows XP it stays open.
            isClean: inUse == .max || flags & 2 != 0)
    }
}
