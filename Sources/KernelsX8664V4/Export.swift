import CShims

@_cdecl("ln_fill_kernel_table_x86_64_v4") @implementation
public func ln_fill_kernel_table_x86_64_v4(_ table: UnsafeMutablePointer<ln_kernel_table>!) {
  // The rare ones are those of x86-64-v3: nothing of them is faster here.
  fillKernelTable(table)
}
