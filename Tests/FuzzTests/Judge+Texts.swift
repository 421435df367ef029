// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import BootRepair
import ByteParsing
import DiskModel
import SystemAccess

extension Judge {
    static let anyGUID = GUID("01234567-89ab-cdef-0123-456789abcdef")

    /// The bytes of a reader as text.
    private static func text(_ reader: any BlockReader) throws -> String {
        String(
            decoding: try reader.readBytes(at: 0, count: Int(clamping: min(reader.byteCount, 1 << 20))), as: UTF8.self)
    }

    private static func volumes() -> [BootVolume] {
        guard let guid = anyGUID else { return [] }
        return [
            BootVolume(
                number: 1, range: 1 << 20..<2 << 20, typeGUID: guid, guid: guid, name: "root", kind: .ext4,
                kindName: "ext4", uuid: "0d9a3c5e-0000-4000-8000-000000000001", label: "debian"),
            BootVolume(
                number: 2, range: 2 << 20..<3 << 20, typeGUID: guid, guid: guid, kind: .swap, kindName: "swap",
                uuid: "0d9a3c5e-0000-4000-8000-000000000002"),
        ]
    }

    /// A frame of the appliance's agent, as a request and as an answer; its payload as the JSON of a repair.
    static func agentFrame(_ reader: any BlockReader) throws {
        let bytes = try reader.readBytes(at: 0, count: Int(clamping: min(reader.byteCount, 1 << 20)))
        let head = Array(bytes.prefix(AgentFrame.headerByteCount))
        guard let (kind, count) = try? AgentFrame.header(head) else { return }
        let payload = Array(bytes.dropFirst(head.count))
        guard payload.count >= count else { return }
        let frame = AgentFrame(kind: kind, payload: Array(payload.prefix(count)))
        if let request = try? AgentRequest(frame) {
            try demand((try? AgentRequest(request.frame)) == request, "a request that does not come back")
        }
        guard case .data(_, let piece) = try? AgentReply(frame), let answer = try? RepairAnswer(json: piece) else {
            return
        }
        try demand(try RepairAnswer(json: answer.json()) == answer, "a repair that does not come back")
        try demand(answer.findings.allSatisfy { FindingCode.named($0.code) != nil }, "an unknown code")
    }

    /// Every first field that changes is replaced in place, and nothing else.
    static func fstab(_ reader: any BlockReader) throws {
        let text = try text(reader)
        let table = Fstab(text)
        let resolved = FstabResolver(volumes: volumes(), rootPartition: 1, capturedDiskName: "sda").resolve(
            table.entries)
        try demand(resolved.count == table.entries.count, "entries come or go")
        try demand(table.replacing([]) == text, "nothing is replaced, and the text changes")
        let changes = resolved.map {
            FstabChange(
                line: $0.line, from: $0.device, to: "UUID=0d9a3c5e-0000-4000-8000-000000000001",
                mountPoint: $0.mountPoint)
        }
        let changed = Fstab(table.replacing(changes))
        try demand(changed.entries.count == table.entries.count, "entries come or go with their names")
        try demand(
            zip(changed.entries, table.entries).allSatisfy {
                $0.device == "UUID=0d9a3c5e-0000-4000-8000-000000000001" && $0.mountPoint == $1.mountPoint
                    && $0.type == $1.type && $0.options == $1.options && $0.line == $1.line
            }, "more than the name changes")
    }

    static func grubConfiguration(_ reader: any BlockReader) throws {
        let configuration = GrubConfiguration(try text(reader))
        _ = configuration.problems(volumes: volumes(), rootPartition: 1)
        _ = configuration.lostResume(volumes: volumes())
    }

    /// An entry of a boot menu, and a configuration of extlinux: each word with a reference is in the text, where it
    /// says.
    static func loaderEntries(_ reader: any BlockReader) throws {
        let text = try text(reader)
        let entry = LoaderEntry(text, file: TreePath(.esp, "/loader/entries/x.conf"), partition: 1)
        let configuration = ExtlinuxConfiguration(text, path: "/boot/extlinux/extlinux.conf")
        let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        for word in entry.words + configuration.entries.flatMap(\.words) {
            try demand(lines.indices.contains(word.line), "a word in line \(word.line)")
            let words = lines[word.line].split { $0 == " " || $0 == "\t" }
            try demand(words.indices.contains(word.word) && words[word.word] == word.text, "another word in its place")
            try demand(word.text.contains(word.value), "a value that the word does not hold")
        }
    }

    /// Output of `efibootmgr -v`: labels and paths in it come from the firmware.
    static func bootEntries(_ reader: any BlockReader) throws {
        let survey = NVRAMSurvey(efibootmgr: try text(reader))
        if let anyGUID { _ = survey.entry(for: "\\EFI\\debian\\shimx64.efi", on: anyGUID) }
    }
}
