import CShims

/// Weight and bias as kernels take them: in the compute type, and in parts beside rows that are split. A copy for each
/// thread, made in the first part of the call that takes it: what one thread has written, others wait for, and it for them
/// before it can write there again. One for all if it is larger than a second-level cache.
struct ParameterCopies {
  /// Of each copy: weight; bias, or ones to add; both in parts.
  let buffers: RowBuffers
  private let cols: Int64
  private let isForEach: Bool
  /// Those that kernels take as they are; nil for others.
  private let readyWeight, readyBias: UnsafeRawPointer?
  private let weight, bias: ParameterRow?
  private let hasWeight, hasBias, addsOne: Bool
  private let add: ln_add_kernel
  private let split: ln_split_kernel?

  /// - Parameters:
  ///   - hasWeight: whether there is to be one: of ones where the call has none.
  ///   - hasBias: whether there is to be one: of zeros where the call has none.
  init(
    _ norm: NormArguments, weight: Tensor?, bias: Tensor?, hasWeight: Bool, hasBias: Bool,
    addsOne: Bool, _ kernels: UnsafePointer<ln_kernel_table>, _ split: ln_split_kernel?,
    for partition: Partition
  ) throws(Failure) {
    let isDouble = norm.compute == .f64
    let convert = isDouble ? kernels.pointee.convert_f64 : kernels.pointee.convert_f32
    cols = norm.cols
    isForEach = norm.cols <= ParameterCopies.mostOfEach
    let copies = isForEach ? partition.threadsUsed : 1
    buffers = try RowBuffers(
      cols: norm.cols, elementSize: norm.compute.size,
      threads: copies == partition.parts ? 0 : copies, shared: ParameterCopies.rows * copies)
    readyWeight = !addsOne && weight?.isReady(norm.compute) == true ? weight?.pointer : nil
    readyBias = bias?.isReady(norm.compute) == true ? bias?.pointer : nil
    self.weight = ParameterRow(weight, convert)
    self.bias = ParameterRow(bias, convert)
    self.hasWeight = hasWeight
    self.hasBias = hasBias
    self.addsOne = addsOne
    add = isDouble ? kernels.pointee.add_f64 : kernels.pointee.add_f32
    self.split = split
  }

  private static let rows: Int64 = 4
  private static let mostOfEach: Int64 = 32 << 10

  /// Has a part of the call take a copy.
  func set(_ work: inout ln_forward_work, part: Int64, of partition: Partition) {
    let copy = copy(for: part, of: partition)
    work.has_long_nan = copy.hasLongNaN ? 1 : 0
    if hasWeight { work.weight = weight(copy.first) }
    if hasBias { work.bias = bias(copy.first) }
    guard split != nil else { return }
    if hasWeight { work.split_weight = UnsafeRawPointer(buffers.shared(copy.first + 2)) }
    if hasBias { work.split_bias = UnsafeRawPointer(buffers.shared(copy.first + 3)) }
  }

  func set(_ work: inout ln_backward_work, part: Int64, of partition: Partition) {
    let copy = copy(for: part, of: partition)
    work.weight = weight(copy.first)
    if split != nil { work.split_weight = UnsafeRawPointer(buffers.shared(copy.first + 2)) }
  }

  /// The first row of a copy that is made by now.
  private func copy(for part: Int64, of partition: Partition) -> (first: Int64, hasLongNaN: Bool) {
    let copy = isForEach ? partition.thread(of: part) : 0
    let first = copy * ParameterCopies.rows
    // What tells whether it is made is one more thing to wait for.
    let isOfPart = isForEach ? partition.hasPartForEach : partition.parts == 1
    let hasLongNaN = isOfPart ? fill(first) : buffers.once(copy) { fill(first) }
    return (first, hasLongNaN)
  }

  private func weight(_ first: Int64) -> UnsafeRawPointer {
    readyWeight ?? UnsafeRawPointer(buffers.shared(first))
  }

  private func bias(_ first: Int64) -> UnsafeRawPointer {
    readyBias ?? UnsafeRawPointer(buffers.shared(first + 1))
  }

  /// Gives whether a parameter in parts may be a NaN of more than 16 bits.
  private func fill(_ first: Int64) -> Bool {
    if hasWeight && readyWeight == nil {
      _ = buffers.fillWeight(shared: first, from: weight, addsOne: addsOne, add)
    }
    if hasBias && readyBias == nil {
      // Of a zero and -0, the sum is that zero.
      _ =
        buffers.fill(shared: first + 1, from: bias)
        ?? buffers.fill(shared: first + 1, with: -0.0)
    }
    guard let split else { return false }
    let weight = hasWeight ? split(cols, weight(first), buffers.shared(first + 2)) : 0
    let bias = hasBias ? split(cols, bias(first), buffers.shared(first + 3)) : 0
    return weight | bias != 0
  }
}
