import CShims

/// Weight and bias as kernels take them: in the compute type, and in parts beside rows that are split. Where no thread
/// has to take two parts of a call, each part has a copy: what one thread has written, others wait for, and it for them
/// before it can write there again.
struct ParameterCopies {
  /// Of each copy: weight; bias, or ones to add; both in parts.
  let buffers: RowBuffers
  /// Or there is one copy, 0.
  let isForEachPart: Bool
  private let norm: NormArguments
  private let weight, bias: Tensor?
  private let hasWeight, hasBias, addsOne: Bool
  private let convert: ln_convert_kernels
  private let add: ln_add_kernel
  private let split: ln_split_kernel?

  struct Pointers {
    var weight, bias, splitWeight, splitBias: UnsafeRawPointer?

    func set(_ work: inout ln_forward_work) {
      work.weight = weight
      work.bias = bias
      work.split_weight = splitWeight
      work.split_bias = splitBias
    }

    func set(_ work: inout ln_backward_work) {
      work.weight = weight
      work.split_weight = splitWeight
    }
  }

  /// - Parameters:
  ///   - hasWeight: whether there is to be one: of ones where the call has none.
  ///   - hasBias: whether there is to be one: of zeros where the call has none.
  init(
    _ norm: NormArguments, weight: Tensor?, bias: Tensor?, hasWeight: Bool, hasBias: Bool,
    addsOne: Bool, _ kernels: UnsafePointer<ln_kernel_table>, _ split: ln_split_kernel?,
    for partition: Partition
  ) throws(Failure) {
    self.norm = norm
    self.weight = weight
    self.bias = bias
    self.hasWeight = hasWeight
    self.hasBias = hasBias
    self.addsOne = addsOne
    self.split = split
    let isDouble = norm.compute == .f64
    convert = isDouble ? kernels.pointee.convert_f64 : kernels.pointee.convert_f32
    add = isDouble ? kernels.pointee.add_f64 : kernels.pointee.add_f32
    isForEachPart = partition.isPartForEach
    buffers = try RowBuffers(
      cols: norm.cols, elementSize: norm.compute.size,
      shared: ParameterCopies.rows * (isForEachPart ? partition.parts : 1))
  }

  private static let rows: Int64 = 4

  func fill(_ copy: Int64) -> Pointers {
    let first = copy * ParameterCopies.rows
    var pointers = Pointers()
    if hasWeight {
      pointers.weight =
        !addsOne && weight?.isReady(norm.compute) == true
        ? weight?.pointer
        : UnsafeRawPointer(
          buffers.fillWeight(shared: first, from: weight, addsOne: addsOne, convert, add))
    }
    if hasBias {
      // Of a zero and -0, the sum is that zero.
      pointers.bias =
        bias?.isReady(norm.compute) == true
        ? bias?.pointer
        : UnsafeRawPointer(
          buffers.fill(shared: first + 1, from: bias, convert)
            ?? buffers.fill(shared: first + 1, with: -0.0))
    }
    guard let split else { return pointers }
    func inParts(_ row: UnsafeRawPointer?, _ index: Int64) -> UnsafeRawPointer? {
      row.map {
        split(norm.cols, $0, buffers.shared(index))
        return UnsafeRawPointer(buffers.shared(index))
      }
    }
    pointers.splitWeight = inParts(pointers.weight, first + 2)
    pointers.splitBias = inParts(pointers.bias, first + 3)
    return pointers
  }
}
