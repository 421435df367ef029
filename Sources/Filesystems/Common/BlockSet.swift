// SPDX-License-Identifier: GPL-3.0-or-later

/// Addresses of metadata blocks, as bits of pages allocated on demand: 512 bytes for every 16 MiB that contain
/// metadata, with units of 4 KiB.
struct BlockSet {
    private static let wordsPerPage = 64
    private static let bitsPerPage: UInt64 = 4096
    /// 64 MiB of memory. Metadata spread over more (2 TiB) is not followed.
    private static let pageLimit = 1 << 17

    private var pages: [UInt64: [UInt64]] = [:]
    private let unit: UInt64

    /// - Parameter unit: not 0; all addresses are multiples of it.
    init(unit: UInt64) { self.unit = unit }

    /// Adds an address.
    /// - Returns: whether it is new.
    mutating func insert(_ address: UInt64) throws(FilesystemError) -> Bool {
        let (page, bit) = (address / unit).quotientAndRemainder(dividingBy: Self.bitsPerPage)
        if pages[page] == nil {
            guard pages.count < Self.pageLimit else { throw .damaged("its metadata is spread too far to be followed") }
            pages[page] = Array(repeating: 0, count: Self.wordsPerPage)
        }
        let (word, mask) = (Int(bit / 64), 1 << (bit % 64) as UInt64)
        guard let old = pages[page]?[word], old & mask == 0 else { return false }
        pages[page]?[word] = old | mask
        return true
    }

    /// Calls `body` with every address, ascending.
    func forEach(_ body: (UInt64) throws(FilesystemError) -> Void) throws(FilesystemError) {
        for page in pages.keys.sorted() {
            for (index, word) in (pages[page] ?? []).enumerated() {
                var rest = word
                while rest != 0 {
                    let bit = page * Self.bitsPerPage + UInt64(index * 64 + rest.trailingZeroBitCount)
                    try body(bit * unit)
                    rest &= rest - 1
                }
            }
        }
    }
}
