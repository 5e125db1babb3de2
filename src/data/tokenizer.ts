/** Text as tokens. The default is bytes: any language, nothing to agree on, and perplexity per byte as it is. */
export interface Tokenizer {
  readonly name: string
  readonly vocabulary: number
  /** @param text - UTF-8. */
  encode(text: Uint8Array): Uint8Array | Uint16Array
  /** Bytes of text that a run of tokens stands for. */
  bytesOf(tokens: number): number
}

export const byteTokenizer: Tokenizer = { name: 'bytes', vocabulary: 256, encode: text => text, bytesOf: tokens => tokens }
