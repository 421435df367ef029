// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import BootRepair
import JobModel

struct MachineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "machine", abstract: "Records this machine's hardware, for `reforge doctor --for`.",
        discussion: """
            Example, on the machine that an image is for (the recovery medium has the command too), and on the one \
            with the image:

              reforge machine > spare.json
              reforge doctor laptop.img.zst --for spare.json

            JSON fields: format ("reforge-machine"), version (1), firmware (bios or uefi), secureBoot, architecture, \
            vendor, product, board, firmwareVersion, controllers [{modalias, driver, module}], disks [{name, model, \
            transport, byteCount, sectorSize, devices [{modalias, driver, module}]}]. Serial numbers are left out.
            """)

    @Flag(help: "Print one JSON object: it is the only form.") var json = false

    func run() throws {
        try CommandRun.run(json: true) { _ in
            try Console.json(MachineRecord.current())
            return .done
        }
    }
}
