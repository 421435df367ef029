// swift-tools-version: 6.2
// SPDX-License-Identifier: GPL-3.0-or-later
import PackageDescription

// A package of its own, so that `swift build` and `swift test` above never need the fuzzer's runtime. What is linked here
// from below Tests/FilesystemsTests and Tests/FuzzTests is the same code that the ordinary tests use.
let package = Package(
    name: "Fuzz",
    dependencies: [
        .package(name: "reforge", path: "../.."),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        .target(name: "CFuzzer"),
        .executableTarget(
            name: "Fuzz",
            dependencies: [
                "CFuzzer", .product(name: "FuzzedParsers", package: "reforge"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: [
                .swiftLanguageMode(.v6), .enableUpcomingFeature("ExistentialAny"),
                .enableUpcomingFeature("MemberImportVisibility"),
            ]),
    ]
)
