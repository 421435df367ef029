// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import Testing

@testable import SystemAccess

/// T0: how volumes are mounted.
struct MountTests {
    @Test func mountsForReadingReplayNothing() {
        #expect(MountedVolume.manner(of: "ext4", writable: false)?.readOnlyOptions == "noload")
        #expect(MountedVolume.manner(of: "xfs", writable: false)?.readOnlyOptions.contains("norecovery") == true)
        #expect(MountedVolume.manner(of: "btrfs", writable: false)?.readOnlyOptions == "rescue=nologreplay")
        #expect(MountedVolume.manner(of: "iso9660", writable: true) == nil)
        #expect(MountedVolume.manner(of: "crypto_LUKS", writable: false) == nil)
        #expect(MountedVolume.manner(of: "", writable: false) == nil)
    }

    @Test func argumentsSayWhatIsMeant() throws {
        let btrfs = try #require(MountedVolume.manner(of: "btrfs", writable: false))
        var arguments = MountArguments(btrfs, .noDevices, readOnly: true)
        arguments.add("subvol=/@")
        #expect(arguments.type == "btrfs" && arguments.options == [.noDevices, .readOnly])
        #expect(arguments.data == "rescue=nologreplay,subvol=/@")
        var writable = MountArguments(btrfs, .untrusted, readOnly: false)
        #expect(writable.options == .untrusted && writable.data.isEmpty)
        writable.add("subvol=/@")
        #expect(writable.data == "subvol=/@")
    }
}
