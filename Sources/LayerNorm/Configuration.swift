import CLayerNorm
import CShims
import Synchronization

/// What a process settles at its first computing call and keeps: the kernels of one instruction set.
enum Configuration {
  nonisolated(unsafe) private static let table = Atomic<UnsafeMutablePointer<ln_kernel_table>?>(nil)

  /// The kernels, if they are settled.
  @inline(__always)
  static var settledKernels: UnsafePointer<ln_kernel_table>? {
    table.load(ordering: .acquiring).map { UnsafePointer($0) }
  }

  /// The kernels to use; LAYERNORM_ISA and LAYERNORM_NUM_THREADS are in order.
  @inline(__always)
  static func kernels() throws(Failure) -> UnsafePointer<ln_kernel_table> {
    if let kernels = settledKernels { return kernels }
    return try settle()
  }

  /// Threads that race here find the same; the first one's table stays.
  private static func settle() throws(Failure) -> UnsafePointer<ln_kernel_table> {
    let isa = try InstructionSet.chosen()
    _ = try ThreadCount.current()
    guard let memory = calloc(1, MemoryLayout<ln_kernel_table>.size) else {
      throw failure(LAYERNORM_ERROR_OUT_OF_MEMORY, "no memory for the table of kernels")
    }
    let new = memory.bindMemory(to: ln_kernel_table.self, capacity: 1)
    isa.fill(new)
    let (exchanged, first) = table.compareExchange(
      expected: nil, desired: new, ordering: .acquiringAndReleasing)
    if exchanged { return UnsafePointer(new) }
    free(memory)
    return UnsafePointer(first.unsafelyUnwrapped)
  }
}

/// The instruction sets that there are kernels for.
enum InstructionSet: Int32 {
  case x86_64 = 1
  case x86_64_v3 = 3
  case x86_64_v4 = 4

  var name: StaticString {
    #if arch(x86_64)
      switch self {
      case .x86_64: "x86-64"
      case .x86_64_v3: "x86-64-v3"
      case .x86_64_v4: "x86-64-v4"
      }
    #else
      "portable"
    #endif
  }

  func fill(_ table: UnsafeMutablePointer<ln_kernel_table>) {
    #if arch(x86_64)
      switch self {
      case .x86_64: ln_fill_kernel_table_x86_64(table)
      case .x86_64_v3: ln_fill_kernel_table_x86_64_v3(table)
      case .x86_64_v4:
        // Which fills what it has kernels of its own for.
        ln_fill_kernel_table_x86_64_v3(table)
        ln_fill_kernel_table_x86_64_v4(table)
      }
    #else
      ln_fill_kernel_table_x86_64(table)
    #endif
  }

  /// Of the process: decided once, so that a change of the environment changes no bits.
  static func chosen() throws(Failure) -> InstructionSet {
    var code = decision.load(ordering: .relaxed)
    if code == undecided {
      code = decide()
      decision.store(code, ordering: .relaxed)
    }
    if let isa = InstructionSet(rawValue: code) { return isa }
    let requested: Sentence.Part =
      if let value = getenv("LAYERNORM_ISA") { .quoted(UnsafePointer(value)) } else { "set" }
    if code == unsupported {
      throw failure(
        LAYERNORM_ERROR_ISA, "LAYERNORM_ISA is ", requested, ", which this CPU does not support")
    }
    throw failure(
      LAYERNORM_ERROR_ISA, "LAYERNORM_ISA is ", requested,
      ", not one of x86-64, x86-64-v3 and x86-64-v4")
  }

  private static let undecided: Int32 = 0
  private static let unknown: Int32 = -1
  private static let unsupported: Int32 = -2
  private static let decision = Atomic<Int32>(0)

  private static func decide() -> Int32 {
    let supported = ln_x86_64_level()
    guard let requested = getenv("LAYERNORM_ISA"), requested.pointee != 0 else { return supported }
    let all: InlineArray<3, InstructionSet> = [x86_64, x86_64_v3, x86_64_v4]
    for index in all.indices where strcmp(requested, cString(all[index].name)) == 0 {
      return all[index].rawValue <= supported ? all[index].rawValue : unsupported
    }
    return unknown
  }
}

@_cdecl("layernorm_isa") @implementation
public func layernorm_isa() -> UnsafePointer<CChar>! {
  (try? InstructionSet.chosen()).map { cString($0.name) }
}

@_cdecl("layernorm_version") @implementation
public func layernorm_version() -> Int32 {
  LAYERNORM_VERSION_MAJOR * 10000 + LAYERNORM_VERSION_MINOR * 100 + LAYERNORM_VERSION_PATCH
}
