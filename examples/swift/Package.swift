// swift-tools-version: 6.3
import PackageDescription

let package = Package(
  name: "example",
  dependencies: [.package(name: "layernorm", path: "../..")],
  targets: [
    .executableTarget(
      name: "example", dependencies: [.product(name: "LayerNorm", package: "layernorm")])
  ]
)
