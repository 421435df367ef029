// swift-tools-version: 6.2
// SPDX-License-Identifier: GPL-3.0-or-later
import PackageDescription

// The staircase: a target depends only on targets above it in this list (see docs/architecture.md).
let common: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
/// Where bytes from outside are read, every unsafe construct is marked as such.
let hostile: [SwiftSetting] = common + [.strictMemorySafety()]

let system: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
/// scrypt, for passwords.
let cryptoExtras: Target.Dependency = .product(name: "CryptoExtras", package: "swift-crypto")

/// The fuzzers, which need the runtime of libFuzzer: only where Scripts/fuzz asks for them.
let fuzzers: [Target] =
    Context.environment["REFORGE_FUZZERS"] == nil
    ? []
    : [
        .target(name: "CFuzzer", path: "Tests/Fuzz/CFuzzer"),
        .executableTarget(
            name: "Fuzz",
            dependencies: [
                "CFuzzer", "ByteParsing", "DiskModel", "LinuxSystem", "Filesystems", "DiskEditing", "Codecs",
                "ImageModel", "ImageFiles", "NBD", "Emulator", "DiskImages", "ObjectStore", "Repository", "Imaging",
                "SystemAccess", "BootFiles", "WindowsFiles", "BootRepair", "Appliance", "TestSupport", system,
            ], path: "Tests/Fuzz/Fuzz", swiftSettings: common),
    ]

let package = Package(
    name: "reforge",
    products: [
        .executable(name: "reforge", targets: ["reforge"]), .library(name: "JobModel", targets: ["JobModel"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    ],
    targets: [
        .target(name: "CLinuxShims"),
        .target(name: "CEarlyBoot"),
        .systemLibrary(
            name: "CParted", pkgConfig: "libparted", providers: [.apt(["libparted-dev", "uuid-dev", "libblkid-dev"])]),
        .systemLibrary(name: "CBlkid", pkgConfig: "blkid", providers: [.apt(["libblkid-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CLZMA", pkgConfig: "liblzma", providers: [.apt(["liblzma-dev"])]),

        .target(name: "ByteParsing", swiftSettings: hostile),
        .target(name: "DiskModel", dependencies: ["ByteParsing"], swiftSettings: hostile),
        .target(name: "WindowsFiles", dependencies: ["ByteParsing"], swiftSettings: hostile),
        .target(
            name: "LinuxSystem", dependencies: ["ByteParsing", "DiskModel", "CLinuxShims", system],
            swiftSettings: common),
        .target(
            name: "Filesystems", dependencies: ["ByteParsing", "DiskModel", "LinuxSystem", "CBlkid", system],
            swiftSettings: hostile),
        .target(
            name: "DiskEditing",
            dependencies: ["ByteParsing", "DiskModel", "LinuxSystem", "Filesystems", "CParted", system],
            swiftSettings: common),
        .target(name: "Codecs", dependencies: ["CZstd", "CLZMA", crypto, cryptoExtras], swiftSettings: common),
        .target(
            name: "ImageModel", dependencies: ["ByteParsing", "DiskModel", "LinuxSystem", "Codecs", system],
            swiftSettings: hostile),
        .target(
            name: "ImageFiles",
            dependencies: ["ByteParsing", "DiskModel", "LinuxSystem", "Codecs", "ImageModel", system],
            exclude: ["ImageFormat.md", "EncryptedImageFormat.md"], swiftSettings: hostile),
        .target(
            name: "NBD", dependencies: ["ByteParsing", "DiskModel", "LinuxSystem", system], swiftSettings: hostile),
        .target(
            name: "Emulator", dependencies: ["ByteParsing", "DiskModel", "LinuxSystem", "NBD", system],
            swiftSettings: common),
        .target(
            name: "DiskImages",
            dependencies: [
                "ByteParsing", "DiskModel", "LinuxSystem", "Filesystems", "Codecs", "ImageModel", "ImageFiles", "NBD",
                "Emulator", system,
            ], swiftSettings: hostile),
        .target(name: "ObjectStore", dependencies: ["DiskModel", "LinuxSystem", system], swiftSettings: hostile),
        .target(
            name: "Repository",
            dependencies: ["ObjectStore", "ByteParsing", "DiskModel", "LinuxSystem", "Codecs", "ImageModel", system],
            exclude: ["RepositoryFormat.md"], swiftSettings: hostile),
        .target(
            name: "FilesystemResize", dependencies: ["DiskModel", "LinuxSystem", "Filesystems", system],
            swiftSettings: common),
        .target(
            name: "Imaging",
            dependencies: [
                "ByteParsing", "DiskModel", "LinuxSystem", "Filesystems", "DiskEditing", "Codecs", "ImageModel",
                "ImageFiles", "NBD", "ObjectStore", "Repository", "FilesystemResize", system,
            ], swiftSettings: common),
        .target(
            name: "BootFiles", dependencies: ["ByteParsing", "DiskModel", "Codecs"], swiftSettings: hostile),
        .target(
            name: "SystemAccess", dependencies: ["ByteParsing", "DiskModel", "LinuxSystem", system],
            swiftSettings: common),
        .target(
            name: "BootRepair",
            dependencies: [
                "ByteParsing", "DiskModel", "WindowsFiles", "LinuxSystem", "Filesystems", "DiskEditing", "BootFiles",
                "SystemAccess",
                system,
            ], swiftSettings: common),
        .target(
            name: "Customization",
            dependencies: [
                "ByteParsing", "DiskModel", "LinuxSystem", "Filesystems", "SystemAccess", "BootRepair", system,
            ], swiftSettings: common),
        .target(
            name: "Appliance",
            dependencies: [
                "ByteParsing", "DiskModel", "LinuxSystem", "Filesystems", "SystemAccess", "BootRepair", "NBD",
                "Emulator", system,
            ],
            swiftSettings: common),
        // What other packages may link: pure values, public.
        .target(name: "JobModel", dependencies: ["DiskModel"], swiftSettings: common),
        .target(
            name: "Operations",
            dependencies: [
                "ByteParsing", "DiskModel", "LinuxSystem", "Filesystems", "DiskEditing", "Codecs", "ImageModel",
                "ImageFiles", "NBD", "Emulator", "DiskImages", "ObjectStore", "Repository", "FilesystemResize",
                "Imaging",
                "BootRepair", "Customization", "SystemAccess", "Appliance", "JobModel", system,
            ], swiftSettings: common),
        .target(
            name: "RecoveryInit",
            dependencies: [
                "JobModel", "DiskModel", "LinuxSystem", "DiskEditing", "Codecs", "SystemAccess", "Appliance", system,
            ], swiftSettings: common),
        .executableTarget(
            name: "reforge",
            dependencies: [
                "Codecs", "DiskModel", "LinuxSystem", "Filesystems", "ImageModel", "ImageFiles", "Imaging", "NBD",
                "Emulator", "DiskImages", "BootRepair", "Customization", "Appliance", "JobModel", "Operations",
                "RecoveryInit",
                "CEarlyBoot", system,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], swiftSettings: common),

        .target(
            name: "TestSupport", dependencies: ["ByteParsing", "DiskModel", "LinuxSystem", "ObjectStore", system],
            path: "Tests/TestSupport"),
        .testTarget(name: "ByteParsingTests", dependencies: ["ByteParsing"]),
        .testTarget(
            name: "DiskModelTests",
            dependencies: ["DiskModel", "TestSupport", "ByteParsing"]),
        .testTarget(
            name: "WindowsFilesTests",
            dependencies: ["WindowsFiles", "ByteParsing", "LinuxSystem", "TestSupport", system], exclude: ["hives.py"]),
        .testTarget(
            name: "LinuxSystemTests",
            dependencies: ["LinuxSystem", "TestSupport", "DiskModel", system]),
        .testTarget(
            name: "FilesystemsTests",
            dependencies: ["Filesystems", "TestSupport", "LinuxSystem", "DiskModel", "ByteParsing", system]),
        .testTarget(
            name: "DiskEditingTests",
            dependencies: [
                "DiskEditing", "Filesystems", "TestSupport", "ByteParsing", "DiskModel", "LinuxSystem", system,
            ]),
        .testTarget(name: "CodecsTests", dependencies: ["Codecs", "CLZMA", "TestSupport"]),
        .testTarget(
            name: "ImagesTests",
            dependencies: [
                "ImageModel", "JobModel", "Operations", "ImageFiles", "NBD", "Emulator", "DiskImages", "ObjectStore",
                "Repository", "Imaging", "Filesystems", "DiskEditing", "TestSupport", "ByteParsing", "Codecs",
                "DiskModel", "LinuxSystem", system,
            ], exclude: ["Samples"]),
        .testTarget(
            name: "ImagingTests",
            dependencies: [
                "Imaging", "NBD", "FilesystemResize", "ImageModel", "ImageFiles", "DiskImages", "ObjectStore",
                "Repository",
                "Filesystems",
                "DiskEditing",
                "TestSupport",
                "ByteParsing", "Codecs",
                "DiskModel", "LinuxSystem", system,
            ]),
        .testTarget(
            name: "NBDTests", dependencies: ["NBD", "ByteParsing", "DiskModel", "LinuxSystem", "TestSupport", system]),
        .testTarget(
            name: "EmulatorTests",
            dependencies: ["Emulator", "NBD", "ByteParsing", "DiskModel", "LinuxSystem", "TestSupport", system]),
        .testTarget(
            name: "ApplianceTests",
            dependencies: [
                "Appliance", "Emulator", "NBD", "SystemAccess", "BootRepair", "ByteParsing", "DiskModel", "LinuxSystem",
                "TestSupport", system,
            ]),
        .testTarget(
            name: "FilesystemResizeTests",
            dependencies: ["FilesystemResize", "TestSupport", "DiskModel", "LinuxSystem", system]),
        .testTarget(
            name: "BootFilesTests",
            dependencies: ["BootFiles", "ByteParsing", "DiskModel", "LinuxSystem", "TestSupport", system]),
        .testTarget(
            name: "SystemAccessTests",
            dependencies: ["SystemAccess", "ByteParsing", "DiskModel", "LinuxSystem", system]),
        .testTarget(
            name: "BootRepairTests",
            dependencies: [
                "BootRepair", "BootFiles", "WindowsFiles", "SystemAccess", "TestSupport", "ByteParsing", "DiskModel",
                "LinuxSystem",
                system,
            ],
            exclude: ["hostile.c"]),
        .testTarget(
            name: "CustomizationTests",
            dependencies: [
                "Customization", "BootRepair", "SystemAccess", "TestSupport", "ByteParsing", "DiskModel", "LinuxSystem",
                system,
            ]),
        .testTarget(
            name: "OperationsTests",
            dependencies: [
                "Operations", "JobModel", "ImageModel", "ImageFiles", "NBD", "Emulator", "DiskImages", "Appliance",
                "SystemAccess", "Imaging", "ObjectStore", "Repository",
                "LinuxSystem", "Filesystems", "DiskEditing", "BootRepair", "DiskModel", "Codecs", "ByteParsing",
                "TestSupport",
                system,
            ]),
        .testTarget(name: "RecoveryInitTests", dependencies: ["RecoveryInit", "JobModel", "TestSupport"]),
        .testTarget(
            name: "FuzzTests",
            dependencies: [
                "BootFiles", "BootRepair", "ByteParsing", "Codecs", "DiskEditing", "DiskModel", "Filesystems",
                "ImageModel", "ImageFiles", "NBD", "Emulator", "DiskImages", "Appliance", "ObjectStore", "Repository",
                "Imaging", "LinuxSystem", "SystemAccess", "WindowsFiles", "TestSupport", system,
            ], exclude: ["Inputs"]),
    ] + fuzzers
)
