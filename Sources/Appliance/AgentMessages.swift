// SPDX-License-Identifier: GPL-3.0-or-later

/// The part of a Btrfs that a mount shows; of other filesystems all is shown.
package enum AgentSubvolume: Equatable, Sendable {
    /// Everything: each subvolume is a folder.
    case topLevel
    /// The default subvolume.
    case standard
    /// The subvolume of this path.
    case named([UInt8])
}

/// What the host asks of the agent.
package enum AgentRequest: Equatable, Sendable {
    /// Keys of LUKS volumes, for the `volumes` that follow.
    case keys([[UInt8]])
    /// Which volumes are there: one `volumes`.
    case volumes
    /// Mounts a volume read-only: one `mounted`.
    case mount(volume: UInt32, AgentSubvolume)
    /// The entries at and below a path, each folder's in order of their bytes: `entry`, with `contents` its `extents`,
    /// `data` and `fileEnd`, or `problem`; then `done`.
    case walk(Walk)
    /// Judges how a disk starts, by a `DoctorQuestion` as JSON: `data` with the bytes of a `DoctorReport` as JSON,
    /// then `done`. Nothing is mounted before, and nothing is mounted at its end.
    case doctor(disk: UInt32, question: [UInt8])
    /// Repairs how a disk starts, by a `DoctorQuestion` as JSON: `log` while it is done, `data` with the bytes of a
    /// `RepairAnswer` as JSON, then `done`. All of it is on the disk then. Refused where disks are only read.
    case repair(disk: UInt32, question: [UInt8])

    package struct Walk: Equatable, Sendable {
        package var mount: UInt32
        package var path: [UInt8]
        /// The levels below the path; 0 for it alone.
        package var depth: UInt32
        /// Whether a link at the end of the path is followed.
        package var followsLast: Bool
        /// Whether attributes and contents are sent; attributes of a file with several names once.
        package var contents: Bool
        /// Without `contents`: whether attributes are sent, with each name of a file.
        package var attributes: Bool

        package init(
            mount: UInt32, path: [UInt8], depth: UInt32 = .max, followsLast: Bool = false, contents: Bool = false,
            attributes: Bool = false
        ) {
            (self.mount, self.path, self.depth) = (mount, path, depth)
            (self.followsLast, self.contents, self.attributes) = (followsLast, contents, attributes)
        }
    }

    private enum Code: UInt8 { case keys = 1, volumes, mount, walk, doctor, repair }

    package var frame: AgentFrame {
        var bytes = AgentBytes()
        let code: Code
        switch self {
        case .keys(let keys):
            code = .keys
            bytes.put(UInt32(clamping: keys.count))
            for key in keys { bytes.put(key) }
        case .volumes: code = .volumes
        case .mount(let volume, let subvolume):
            code = .mount
            bytes.put(volume)
            switch subvolume {
            case .topLevel: bytes.put(UInt8(0))
            case .standard: bytes.put(UInt8(1))
            case .named(let path):
                bytes.put(UInt8(2))
                bytes.put(path)
            }
        case .walk(let walk):
            code = .walk
            bytes.put(walk.mount)
            bytes.put(walk.path)
            bytes.put(walk.depth)
            bytes.put(UInt8((walk.followsLast ? 1 : 0) | (walk.contents ? 2 : 0) | (walk.attributes ? 4 : 0)))
        case .doctor(let disk, let question):
            code = .doctor
            bytes.put(disk)
            bytes.put(question)
        case .repair(let disk, let question):
            code = .repair
            bytes.put(disk)
            bytes.put(question)
        }
        return AgentFrame(kind: code.rawValue, payload: bytes.bytes)
    }

    package init(_ frame: AgentFrame) throws(ApplianceError) {
        var reader = AgentBytesReader(frame.payload)
        switch Code(rawValue: frame.kind) {
        case .keys:
            let count = Int(try reader.number(UInt32.self))
            guard count <= 64 else { throw .untrusted("\(count) keys") }
            var keys: [[UInt8]] = []
            for _ in 0..<count { keys.append(try reader.string()) }
            self = .keys(keys)
        case .volumes: self = .volumes
        case .mount:
            let volume: UInt32 = try reader.number()
            switch try reader.number(UInt8.self) {
            case 0: self = .mount(volume: volume, .topLevel)
            case 1: self = .mount(volume: volume, .standard)
            case 2: self = .mount(volume: volume, .named(try reader.string(limit: AgentEntry.longestPath)))
            default: throw .untrusted("an unknown subvolume")
            }
        case .walk:
            let mount: UInt32 = try reader.number()
            let path = try reader.string(limit: AgentEntry.longestPath)
            let depth: UInt32 = try reader.number()
            let flags: UInt8 = try reader.number()
            self = .walk(
                Walk(
                    mount: mount, path: path, depth: depth, followsLast: flags & 1 != 0, contents: flags & 2 != 0,
                    attributes: flags & 4 != 0))
        case .doctor: self = .doctor(disk: try reader.number(), question: try reader.string())
        case .repair: self = .repair(disk: try reader.number(), question: try reader.string())
        case nil: throw .untrusted("an unknown request")
        }
        try reader.end()
    }
}

/// What the agent answers.
package enum AgentReply: Equatable, Sendable {
    /// The first frame, once the agent runs.
    case hello(kernel: String)
    case volumes([AgentVolume])
    case mounted(UInt32)
    case done
    /// The request failed. The code is errno, or 0.
    case failed(code: Int32, text: String)
    case entry(AgentEntry)
    /// The ranges with data of the sparse file that was named last, ascending; the rest is holes.
    case extents([Range<UInt64>])
    case data(offset: UInt64, [UInt8])
    /// All contents of the file were sent.
    case fileEnd
    /// An entry, or the rest of its contents, cannot be read; the walk continues behind it.
    case problem(path: [UInt8], code: Int32, text: String)
    /// What a repair does now; it has no end but that of the request.
    case log(String)

    private enum Code: UInt8 {
        case hello = 128
        case volumes, mounted, done, failed, entry, extents, data, fileEnd, problem, log
    }

    /// The largest piece of a file in one frame.
    package static let pieceByteCount = 256 << 10
    private static let longestKernel = 256
    /// The most ranges of one file: a file with more is sent with its last holes as zeros.
    package static let mostExtents = 1 << 15

    package var frame: AgentFrame {
        var bytes = AgentBytes()
        let code: Code
        switch self {
        case .hello(let kernel):
            code = .hello
            bytes.put(kernel, limit: Self.longestKernel)
        case .volumes(let volumes):
            code = .volumes
            bytes.put(UInt32(clamping: volumes.count))
            for volume in volumes { volume.write(to: &bytes) }
        case .mounted(let number):
            code = .mounted
            bytes.put(number)
        case .done: code = .done
        case .failed(let number, let text):
            code = .failed
            bytes.put(number)
            bytes.put(text)
        case .entry(let entry):
            code = .entry
            entry.write(to: &bytes)
        case .extents(let ranges):
            code = .extents
            bytes.put(UInt32(clamping: ranges.count))
            for range in ranges {
                bytes.put(range.lowerBound)
                bytes.put(range.upperBound)
            }
        case .data(let offset, let piece):
            code = .data
            bytes.put(offset)
            bytes.put(piece)
        case .fileEnd: code = .fileEnd
        case .problem(let path, let number, let text):
            code = .problem
            bytes.put(path)
            bytes.put(number)
            bytes.put(text)
        case .log(let text):
            code = .log
            bytes.put(text)
        }
        return AgentFrame(kind: code.rawValue, payload: bytes.bytes)
    }

    package init(_ frame: AgentFrame) throws(ApplianceError) {
        var reader = AgentBytesReader(frame.payload)
        switch Code(rawValue: frame.kind) {
        case .hello: self = .hello(kernel: try reader.text(limit: Self.longestKernel))
        case .volumes:
            let count = Int(try reader.number(UInt32.self))
            guard count <= 4096 else { throw .untrusted("\(count) volumes") }
            var volumes: [AgentVolume] = []
            for _ in 0..<count { volumes.append(try AgentVolume(&reader)) }
            self = .volumes(volumes)
        case .mounted: self = .mounted(try reader.number())
        case .done: self = .done
        case .failed: self = .failed(code: try reader.number(), text: try reader.text())
        case .entry: self = .entry(try AgentEntry(&reader))
        case .extents: self = .extents(try Self.ranges(&reader))
        case .data:
            let offset: UInt64 = try reader.number()
            let piece = try reader.string(limit: Self.pieceByteCount)
            self = .data(offset: offset, piece)
        case .fileEnd: self = .fileEnd
        case .problem:
            self = .problem(
                path: try reader.string(limit: AgentEntry.longestPath), code: try reader.number(),
                text: try reader.text())
        case .log: self = .log(try reader.text())
        case nil: throw .untrusted("an unknown answer")
        }
        try reader.end()
    }

    private static func ranges(_ reader: inout AgentBytesReader) throws(ApplianceError) -> [Range<UInt64>] {
        let count = Int(try reader.number(UInt32.self))
        guard count <= mostExtents, count <= reader.left / 16 else { throw .untrusted("\(count) ranges") }
        var ranges: [Range<UInt64>] = []
        var end: UInt64 = 0
        for _ in 0..<count {
            let (lower, upper): (UInt64, UInt64) = (try reader.number(), try reader.number())
            guard lower >= end, upper > lower, upper <= UInt64(Int64.max) else {
                throw .untrusted("ranges out of order")
            }
            ranges.append(lower..<upper)
            end = upper
        }
        return ranges
    }
}
