// swift-tools-version: 6.3
import PackageDescription

// The shipped library is CMake's; this package builds the same sources for Swift programs, with the
// Swift runtime, puts the typed functions of the module LayerNorm over them, and runs the Swift tests.

/// The kernels once more, for one instruction set; optimized in debug builds too, where they would
/// be a hundred times slower and are not what is being debugged.
func kernels(_ name: String, _ flags: [String]) -> Target {
  let optimized = ["-Ounchecked", "-disable-batch-mode", "-wmo", "-num-threads", "1"]
  return .target(
    name: name, dependencies: ["CShims"], swiftSettings: [.unsafeFlags(optimized + flags)])
}

let package = Package(
  name: "layernorm",
  products: [
    .library(name: "LayerNorm", targets: ["LayerNorm"]),
    .library(name: "layernorm", type: .dynamic, targets: ["LayerNormCore"]),
  ],
  targets: [
    .systemLibrary(name: "CLayerNorm", path: "Include"),
    .systemLibrary(name: "CShims"),
    kernels("KernelsX8664", ["-DLAYERNORM_COMPACT"]),
    kernels("KernelsX8664V3", ["-Xcc", "-march=x86-64-v3"]),
    kernels("KernelsX8664V4", ["-Xcc", "-march=x86-64-v4", "-Xcc", "-mprefer-vector-width=512"]),
    .target(
      name: "LayerNormCore",
      dependencies: ["CLayerNorm", "CShims", "KernelsX8664", "KernelsX8664V3", "KernelsX8664V4"],
      path: "Sources/LayerNorm"),
    .target(
      name: "LayerNorm", dependencies: ["CLayerNorm", "LayerNormCore"], path: "bindings/swift"),
    .testTarget(
      name: "LayerNormTests", dependencies: ["LayerNorm", "CLayerNorm"],
      path: "Tests/LayerNormTests"),
  ]
)
