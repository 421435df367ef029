// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskEditing
import DiskModel
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// A disk of this machine that is read as its capture would be, without an image: to clone it, or at any place.
struct SourceDisk {
    let opened: OpenedDisk
    let source: DiskSource
    let survey: DiskSurvey
    /// Without warnings: they were events.
    let plan: CapturePlan

    /// - Parameters:
    ///   - rescues: whether unreadable sectors become zeros.
    ///   - keyFiles: the keys of LUKS volumes, of which only used sectors are read then.
    ///   - uuid: the identity of its recording.
    /// - Throws: `JobFailure` for a disk that may change while it is read, or that holds no disk's contents.
    init(
        _ path: String, for purpose: DiskSource.Purpose, rescues: Bool = false, keyFiles: [String] = [],
        leftOut: CaptureOptions.LeftOut, uuid: (DiskSurvey) throws -> GUID, _ keys: KeyRing
    ) throws {
        let events = keys.events
        opened = try OpenedDisk(path, .readOnly)
        try Self.refuse(opened)
        let unlocker = try LUKSKeys(keyFiles).unlocker()
        source = try DiskSource(
            opened, for: purpose, usesSnapshots: false, rescues: rescues, allowMounted: false, events,
            keys.cancellation)
        survey = try source.survey(allUsed: false, skipPageFiles: false, trustMaps: false, unlocker: unlocker)
        try unlocker?.check(path)
        if let found = try InterruptedRestore(on: source.reader, survey.volumes) {
            throw JobFailure(.refused, "\(path) holds \(found): finish that restore first")
        }
        var plan = CapturePlanner.recording(
            of: survey, tableBytes: try CapturedTable(reading: source.reader, table: survey.table),
            swapHeaders: try CaptureOperation.swapHeaders(survey, source.reader), leftOut: leftOut,
            .init(uuid: try uuid(survey), changed: SystemFacts.unixSeconds()))
        for warning in plan.header.manifest.warnings { events.warn("source-disk", "\(path): \(warning)") }
        plan.header.manifest.warnings = []
        self.plan = plan
    }

    private static func refuse(_ disk: OpenedDisk) throws {
        let path = disk.identity.path
        guard [512, 4096].contains(disk.device.logicalSectorSize) else {
            throw JobFailure(
                .refused,
                "\(path) has sectors of \(disk.device.logicalSectorSize) bytes; 512 and 4096 are supported")
        }
        guard let known = try disk.knownImage else { return }
        throw JobFailure(
            .refused,
            "\(path) holds \(known.name), not the contents of a disk: copy that image into a file of its exact length "
                + "(head -c LENGTH \(path)), and give the file")
    }
}
