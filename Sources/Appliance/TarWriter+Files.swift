// SPDX-License-Identifier: GPL-3.0-or-later

extension TarWriter {
    /// An archive of small files, readable for everyone.
    /// - Parameter modified: their time, in seconds since 1970.
    package static func archive(_ files: [(name: String, bytes: [UInt8])], modified: Int64) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var writer = TarWriter { bytes += $0 }
        for file in files {
            try writer.begin(
                Member(
                    path: Array(file.name.utf8), type: UInt8(ascii: "0"), permissions: 0o644,
                    byteCount: UInt64(file.bytes.count), modified: modified))
            try writer.data(file.bytes)
            try writer.pad()
        }
        try writer.end()
        return bytes
    }
}
