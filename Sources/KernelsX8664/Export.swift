import CShims

@_cdecl("ln_fill_kernel_table_x86_64") @implementation
public func ln_fill_kernel_table_x86_64(_ table: UnsafeMutablePointer<ln_kernel_table>!) {
  fillKernelTable(table)
  fillRareKernels(table)
}
