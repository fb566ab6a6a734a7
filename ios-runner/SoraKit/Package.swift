// swift-tools-version: 6.0
import PackageDescription

// `../build-xcframework.sh` makes what is not checked in: the XCFramework and `Sources/SoraKit/Generated`.
let package = Package(
    name: "SoraKit",
    platforms: [.iOS(.v18), .macOS(.v15)],
    products: [.library(name: "SoraKit", targets: ["SoraKit"])],
    targets: [
        .binaryTarget(name: "SoraRunnerFFI", path: "../build/SoraRunnerFFI.xcframework"),
        .target(
            name: "SoraKit",
            dependencies: ["SoraRunnerFFI"],
            linkerSettings: [
                .linkedFramework("Metal"),
                .linkedFramework("MetalPerformanceShaders"),
                .linkedFramework("Foundation"),
                .linkedFramework("Security"),
                .linkedFramework("SystemConfiguration"),
            ]
        ),
        .testTarget(name: "SoraKitTests", dependencies: ["SoraKit"]),
    ]
)
