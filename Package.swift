// swift-tools-version: 6.2
import PackageDescription

/// Settings of every target of ours: Swift 6 language mode comes from the tools version.
let strict: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .treatAllWarnings(as: .error),
]

let package = Package(
  name: "fedlora",
  products: [
    .library(name: "FedLoRAEngine", targets: ["FedLoRAEngine"]),
    .library(name: "FedLoRADP", targets: ["FedLoRADP"]),
    .library(name: "FedLoRACoordinator", targets: ["FedLoRACoordinator"]),
    .library(name: "FedLoRAClient", targets: ["FedLoRAClient"]),
    .executable(name: "fedlora", targets: ["fedlora"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
    .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    .systemLibrary(
      name: "COpenBLAS",
      path: "Sources/COpenBLAS",
      providers: [.apt(["libopenblas-dev", "liblapacke-dev"])]
    ),
    .target(name: "CKernels", path: "Sources/CKernels"),
    .target(
      name: "FedLoRALinearAlgebra",
      dependencies: ["COpenBLAS"],
      path: "Sources/LinearAlgebra",
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRACheckpoint",
      path: "Sources/Checkpoint",
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRAFederation",
      dependencies: ["FedLoRALinearAlgebra", "FedLoRACheckpoint"],
      path: "Sources/Federation",
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRADP",
      dependencies: [.product(name: "Crypto", package: "swift-crypto")],
      path: "Sources/DP",
      exclude: ["Noise/make_table.py"],
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRAEngine",
      dependencies: [
        "CKernels", "FedLoRALinearAlgebra", "FedLoRACheckpoint",
        .product(name: "Crypto", package: "swift-crypto"),
      ],
      path: "Sources/Engine",
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRAObservability",
      dependencies: [
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "CoreMetrics", package: "swift-metrics"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Sources/Observability",
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRAProtocol",
      dependencies: [
        "FedLoRACheckpoint",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOTLS", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "X509", package: "swift-certificates"),
        .product(name: "SwiftASN1", package: "swift-asn1"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Sources/Protocol",
      exclude: ["Schema"],
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRACoordinator",
      dependencies: [
        "FedLoRAProtocol", "FedLoRAFederation", "FedLoRACheckpoint", "FedLoRADP", "FedLoRAObservability",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
        .product(name: "GRDB", package: "GRDB.swift"),
        .product(name: "CoreMetrics", package: "swift-metrics"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Sources/Coordinator",
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRAClient",
      dependencies: [
        "FedLoRAProtocol", "FedLoRAFederation", "FedLoRAEngine", "FedLoRACheckpoint", "FedLoRADP",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Sources/Client",
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRAConfiguration",
      dependencies: [
        "FedLoRAClient", "FedLoRADP", "FedLoRAEngine", "FedLoRAFederation", "FedLoRAProtocol", "FedLoRACheckpoint",
        .product(name: "Yams", package: "Yams"),
      ],
      path: "Sources/Configuration",
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRASimulation",
      dependencies: [
        "FedLoRAConfiguration", "FedLoRACoordinator", "FedLoRAClient", "FedLoRAEngine", "FedLoRAFederation",
        "FedLoRADP", "FedLoRAProtocol", "FedLoRALinearAlgebra", "FedLoRACheckpoint",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Simulations",
      exclude: ["Scripts"],
      sources: ["Harness"],
      resources: [.copy("Embedded"), .copy("Scenarios")],
      swiftSettings: strict
    ),
    .executableTarget(
      name: "fedlora",
      dependencies: [
        "FedLoRASimulation", "FedLoRAConfiguration", "FedLoRACoordinator", "FedLoRAClient", "FedLoRAEngine",
        "FedLoRADP", "FedLoRAFederation", "FedLoRAProtocol", "FedLoRACheckpoint", "FedLoRAObservability",
        "FedLoRAEngineBenchmark",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Sources/fedlora",
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRAEngineBenchmark",
      dependencies: ["FedLoRAEngine", "FedLoRACheckpoint", "FedLoRALinearAlgebra", "CKernels"],
      path: "Benchmarks/Engine",
      swiftSettings: strict
    ),
    .executableTarget(
      name: "private-step",
      dependencies: ["FedLoRADP", "FedLoRAEngine", "FedLoRALinearAlgebra", "CKernels"],
      path: "Benchmarks/PrivateStep",
      swiftSettings: strict
    ),
    .executableTarget(
      name: "noise-benchmark",
      dependencies: ["FedLoRADP"],
      path: "Benchmarks/Noise",
      swiftSettings: strict
    ),
    .executableTarget(
      name: "accountant-benchmark",
      dependencies: ["FedLoRADP"],
      path: "Benchmarks/Accountant",
      swiftSettings: strict
    ),
    .executableTarget(
      name: "robust-benchmark",
      dependencies: ["FedLoRACoordinator", "FedLoRAFederation", "FedLoRACheckpoint"],
      path: "Benchmarks/Robust",
      swiftSettings: strict
    ),
    .executableTarget(
      name: "load-benchmark",
      dependencies: [
        "FedLoRACoordinator", "FedLoRAProtocol", "FedLoRACheckpoint",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Benchmarks/Load",
      swiftSettings: strict
    ),
    .executableTarget(
      name: "clients-benchmark",
      dependencies: [
        "FedLoRASimulation", "FedLoRAConfiguration", "FedLoRACoordinator", "FedLoRAClient", "FedLoRAEngine",
        "FedLoRADP",
        "FedLoRAProtocol", "FedLoRAEngineBenchmark",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Benchmarks/Clients",
      swiftSettings: strict
    ),
    .target(name: "CMeter", path: "Fuzzing/Meter", publicHeadersPath: "include"),
    .target(
      name: "FedLoRAFuzzing",
      dependencies: [
        "FedLoRAConfiguration", "FedLoRACoordinator", "FedLoRAClient", "FedLoRAEngine", "FedLoRAFederation",
        "FedLoRADP",
        "FedLoRAProtocol", "FedLoRACheckpoint",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOEmbedded", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "X509", package: "swift-certificates"),
        .product(name: "SwiftASN1", package: "swift-asn1"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Fuzzing/Harness",
      swiftSettings: strict
    ),
    .executableTarget(
      name: "fuzz",
      dependencies: [
        "FedLoRAFuzzing", "FedLoRAEngine", "CMeter",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Fuzzing/Driver",
      swiftSettings: strict
    ),
    .executableTarget(
      name: "step-allocations",
      dependencies: ["FedLoRAEngine", "FedLoRACheckpoint", "CMeter"],
      path: "Tests/StepAllocations",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRAKernelTests",
      dependencies: ["CKernels"],
      path: "Tests/KernelTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRALinearAlgebraTests",
      dependencies: ["FedLoRALinearAlgebra"],
      path: "Tests/LinearAlgebraTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRACheckpointTests",
      dependencies: ["FedLoRACheckpoint"],
      path: "Tests/CheckpointTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRATokenizerTests",
      dependencies: ["FedLoRAEngine"],
      path: "Tests/TokenizerTests",
      resources: [.copy("Fixtures")],
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRADataTests",
      dependencies: ["FedLoRAEngine"],
      path: "Tests/DataTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRAEngineTests",
      dependencies: ["FedLoRAEngine", "FedLoRACheckpoint", "CKernels"],
      path: "Tests/EngineTests",
      exclude: ["Fixtures"],
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRAFederationTests",
      dependencies: ["FedLoRAFederation", "FedLoRALinearAlgebra", "FedLoRACheckpoint"],
      path: "Tests/FederationTests",
      exclude: ["Fixtures"],
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRADPTests",
      dependencies: ["FedLoRADP"],
      path: "Tests/DPTests",
      exclude: ["Fixtures"],
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRAProtocolTests",
      dependencies: [
        "FedLoRAProtocol", "FedLoRACheckpoint",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOEmbedded", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "X509", package: "swift-certificates"),
        .product(name: "SwiftASN1", package: "swift-asn1"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Tests/ProtocolTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRAObservabilityTests",
      dependencies: [
        "FedLoRAObservability", "FedLoRATestSupport",
        .product(name: "CoreMetrics", package: "swift-metrics"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Tests/ObservabilityTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRACoordinatorTests",
      dependencies: [
        "FedLoRACoordinator", "FedLoRAProtocol", "FedLoRAFederation", "FedLoRACheckpoint", "FedLoRADP",
        .product(name: "GRDB", package: "GRDB.swift"),
      ],
      path: "Tests/CoordinatorTests",
      swiftSettings: strict
    ),
    .target(
      name: "FedLoRATestSupport",
      dependencies: [
        "FedLoRACoordinator", "FedLoRAClient", "FedLoRAFederation", "FedLoRAProtocol", "FedLoRACheckpoint",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
        .product(name: "CoreMetrics", package: "swift-metrics"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Tests/Support",
      swiftSettings: strict
    ),
    .target(
      name: "CSimulatedFiles",
      path: "Tests/CSimulatedFiles",
      linkerSettings: [.linkedLibrary("sqlite3")]
    ),
    .target(
      name: "FedLoRAFaultSimulation",
      dependencies: [
        "CSimulatedFiles", "FedLoRACoordinator", "FedLoRAClient", "FedLoRAFederation", "FedLoRAProtocol",
        "FedLoRACheckpoint", "FedLoRATestSupport",
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Tests/FaultSimulation",
      swiftSettings: strict
    ),
    .executableTarget(
      name: "fault-simulation",
      dependencies: [
        "FedLoRAFaultSimulation",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Tests/FaultSimulator",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRAFaultSimulationTests",
      dependencies: ["FedLoRAFaultSimulation", "FedLoRACheckpoint", "FedLoRACoordinator"],
      path: "Tests/FaultSimulationTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRAConfigurationTests",
      dependencies: [
        "FedLoRAConfiguration", "FedLoRAEngine", "FedLoRAFederation", "FedLoRAProtocol", "FedLoRACheckpoint",
        "FedLoRATestSupport",
      ],
      path: "Tests/ConfigurationTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRAClientTests",
      dependencies: [
        "FedLoRAClient", "FedLoRACoordinator", "FedLoRAFederation", "FedLoRAEngine", "FedLoRADP", "FedLoRAProtocol",
        "FedLoRACheckpoint", "FedLoRATestSupport",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
      ],
      path: "Tests/ClientTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRACoordinatorServerTests",
      dependencies: [
        "FedLoRACoordinator", "FedLoRAClient", "FedLoRAFederation", "FedLoRAProtocol", "FedLoRACheckpoint",
        "FedLoRAObservability", "FedLoRATestSupport",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "CoreMetrics", package: "swift-metrics"),
      ],
      path: "Tests/CoordinatorServerTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRAFuzzTests",
      dependencies: ["FedLoRAFuzzing"],
      path: "Tests/FuzzTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRASimulationTests",
      dependencies: [
        "FedLoRASimulation", "FedLoRAConfiguration", "FedLoRACoordinator", "FedLoRAClient", "FedLoRAEngine",
        "FedLoRAFederation", "FedLoRACheckpoint", "FedLoRADP", "FedLoRATestSupport",
      ],
      path: "Tests/SimulationTests",
      swiftSettings: strict
    ),
    .testTarget(
      name: "FedLoRAEndToEndTests",
      dependencies: [
        "fedlora", "FedLoRASimulation", "FedLoRAConfiguration", "FedLoRAEngine", "FedLoRAProtocol", "FedLoRACheckpoint",
        "FedLoRADP", "FedLoRAObservability", "FedLoRATestSupport",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
      ],
      path: "Tests/EndToEndTests",
      swiftSettings: strict
    ),
  ]
)
