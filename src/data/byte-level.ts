/**
 * Bytes as visible characters, the alphabet of byte-level BPE (Radford et al. 2019, GPT-2's `bytes_to_unicode`), and the tokenizer.json
 * whose tokens are the bytes themselves.
 */

/** Character of each byte: printable Latin-1 stands for itself, the other 68 follow from U+0100 on. */
export const byteCharacters: readonly string[] = (() => {
  const plain = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
  let next = 0x100
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(plain(byte) ? byte : next++))
})()

const bytes = new Map(byteCharacters.map((character, byte) => [character, byte]))

/** Bytes of a token of that alphabet; null if it holds another character. */
export function bytesOfCharacters(token: string): Uint8Array | null {
  const found = [...token].map(character => bytes.get(character))
  return found.includes(undefined) ? null : Uint8Array.from(found as number[])
}

/** What `tokenizer.json` holds for a byte-level BPE. Ids 0–255 are the bytes, then one a merge. */
export function byteLevelTokenizer(merges: [string, string][], { words }: { words: boolean }): Record<string, unknown> {
  const tokens = [...byteCharacters, ...merges.map(pair => pair.join(''))]
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: words }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges
    }
  }
}

/** The byte tokenizer, for programs that know tokenizer.json: equal ids. */
export const byteTokenizerJson = (): string => JSON.stringify(byteLevelTokenizer([], { words: false }))
