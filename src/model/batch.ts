/** Windows of tokens: `inputs` and `targets` have shape [windows, context], row after row; a target is the token after its input. */
export interface Batch {
  inputs: Int32Array
  targets: Int32Array
}
