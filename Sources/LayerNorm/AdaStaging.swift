import CLayerNorm
import CShims

/// What backward of AdaNorm does before it is that of layer norm without weight: g = dy * C * (1 - k * x^),
/// of rows in buffers of the compute type. x^ is what forward finds.
struct AdaStaging {
  private let ada: Ada
  private let norm: NormArguments
  private let eps: Double
  private let given: Tensor?
  private let isDouble: Bool
  private let forward: ln_forward_kernel
  private let multiply: ln_ada_kernel
  private let kernels: UnsafePointer<ln_kernel_table>

  init(
    _ ada: Ada, _ norm: NormArguments, given: Tensor?,
    _ kernels: UnsafePointer<ln_kernel_table>
  ) {
    self.ada = ada
    self.given = given
    self.norm = norm
    // Beside a given rstd eps does not serve, and x^ is scaled to that rstd afterwards.
    eps = given == nil ? norm.eps : 0
    isDouble = norm.compute == .f64
    forward = isDouble ? kernels.pointee.forward_f64 : kernels.pointee.forward_f32
    self.kernels = kernels
    multiply = isDouble ? kernels.pointee.ada_f64 : kernels.pointee.ada_f32
  }

  /// Of the rows begin ..< end of the call: those of dy are in a buffer.
  @inline(never) func multiply(
    _ dy: UnsafeMutableRawPointer, by x: ln_rows, _ begin: Int64, _ end: Int64,
    _ buffers: RowBuffers, through normalized: UnsafeMutableRawPointer
  ) {
    var rstds = SIMD16<Double>(repeating: 0)
    withUnsafeMutableBytes(of: &rstds) { rstds in
      let found = rstds.baseAddress.unsafelyUnwrapped
      var work = ln_forward_work(
        cols: norm.cols, rows_per_batch: norm.rows, eps: eps,
        bytes_per_group: Caches.current.bytesPerGroup, has_pairs: 0, centers: 1,
        rounds_rstd: 0, is_far: 0, fetches: 0, fetches_later: 0, stores_ahead: 0, is_piped: 0,
        streams: 0, is_plain: 0, has_blocks: 0, has_long_nan: 0, x: x, residual: ln_rows(),
        sum: ln_rows(), y: ln_rows(), added: ln_rows(),
        added_bytes: 0, weight: nil, bias: nil, split_weight: nil, split_bias: nil, x_bias: nil,
        mean: nil, rstd: nil, ada_scale: 0, ada_slope: 0, kernels: kernels)
      for first in stride(from: begin, to: end, by: Int(AdaStaging.rows)) {
        let count = min(end &- first, AdaStaging.rows)
        work.y = buffers.kernelRows(normalized, from: first, norm)
        work.rstd = moved(found, back: first &* norm.compute.size)
        forward(&work, first, first &+ count)
        for row in 0..<Int(count) {
          var slope = -ada.scale * ada.slope
          if let given = given?.pointer {
            let ratio = load(given, Int(first) &+ row) / load(found, row)
            // Where it is not, both are infinite, as of a constant row, or x^ is NaN.
            if ratio.isFinite { slope *= ratio }
          }
          let rowBytes = Int(buffers.rowBytes)
          multiply(
            norm.cols, ada.scale, slope, normalized + row &* rowBytes,
            dy + (Int(first &- begin) &+ row) &* rowBytes)
        }
      }
    }
  }

  /// How many rows are taken together.
  private static let rows: Int64 = 16

  private func load(_ statistics: UnsafeRawPointer, _ row: Int) -> Double {
    isDouble
      ? statistics.assumingMemoryBound(to: Double.self)[row]
      : Double(statistics.assumingMemoryBound(to: Float.self)[row])
  }
}
