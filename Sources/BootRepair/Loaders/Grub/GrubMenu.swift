// SPDX-License-Identifier: GPL-3.0-or-later

/// GRUB's menu, grub.cfg, whichever platform starts it; and the tools of the installed system that make it.
struct GrubMenu: BootLoader {
    let name = "grub-menu"

    func judge(_ configuration: [UInt8]?, volumes: [BootVolume], rootPartition: Int) -> ConfigurationVerdict {
        guard let configuration else { return ConfigurationVerdict(problems: ["there is none"]) }
        let menu = GrubConfiguration(String(decoding: configuration, as: UTF8.self))
        return ConfigurationVerdict(
            problems: menu.problems(volumes: volumes, rootPartition: rootPartition),
            otherSystems: menu.otherSystems(volumes: volumes, rootPartition: rootPartition).map {
                ConfigurationVerdict.OtherSystem(title: $0.title, place: "\($0.place)")
            })
    }
}
