/**
 * Text as tokens. The default is bytes: any language, nothing to agree on, and perplexity per byte as it is. Otherwise a tokenizer.json
 * (https://huggingface.co/docs/tokenizers), run by @huggingface/tokenizers.
 *
 * Is not: a place for tokens that begin or end a text. Ours is one stream, so none are added.
 */
import { Tokenizer as Library } from '@huggingface/tokenizers'
import { WorldlmError } from '../errors.ts'
import type { Tokens } from './batches.ts'
import { byteTokenizerJson, bytesOfCharacters } from './byte-level.ts'
import { type Bytes, memoryBytesDefault, Spool } from './spool.ts'

export interface Tokenizer {
  readonly name: string
  /** Ids are 0 ≤ id < vocabulary. */
  readonly vocabulary: number
  /** @param text - UTF-8. @param memoryBytesMax - more of tokens are kept in a temporary file. @throws {WorldlmError} DATA_NO_SPACE */
  encode(text: Bytes, memoryBytesMax?: number): Tokens
  /** Bytes of text that a token stands for: exact for bytes and byte-level BPE, else those of the text as it was normalized. */
  bytesOf(token: number): number
  /**
   * Text as it comes: `push` gives what a further token makes certain, `end` what is left.
   * @param before - tokens of the text that this one goes on with: what begins a text is often decoded without its space.
   */
  decoder(before?: number[]): TokenDecoder
}

export interface TokenDecoder {
  push(token: number): string
  end(): string
}

const byteDecoder = (bytesOf: (token: number) => Uint8Array): TokenDecoder => {
  // A mark of byte order is text, too: what was encoded comes back.
  const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
  return { push: token => utf8.decode(bytesOf(token), { stream: true }), end: () => utf8.decode() }
}

export const byteTokenizer: Tokenizer = {
  name: 'bytes',
  vocabulary: 256,
  encode: text => text,
  bytesOf: () => 1,
  // A model may know more tokens than there are bytes; what it was never shown is no text.
  decoder: () => byteDecoder(token => (token < 256 ? Uint8Array.of(token) : new Uint8Array(0)))
}

/** Tokens of the text before that a decoder looks at: some may have no text of their own. */
const tokensBefore = 16

/** Bytes encoded at a time: the library's work grows faster than the text. Cut behind a line's end. */
const pieceBytes = 1 << 16

/** @param json - of tokenizer.json; null: bytes. @throws {WorldlmError} TOKENIZER_INVALID */
export function openTokenizer(json: string | null, where: string): Tokenizer {
  // What an export of a byte model holds is read back as what it was: the library would take each piece of text for one word.
  return json === null || json.trim() === byteTokenizerJson() ? byteTokenizer : new JsonTokenizer(json, where)
}

class JsonTokenizer implements Tokenizer {
  readonly name: string
  readonly vocabulary: number
  readonly #library: Library
  /** Bytes of each token by id, where they are exact. */
  readonly #bytes: (Uint8Array | null)[]
  readonly #lengths: Uint16Array
  readonly #byteFallback: ByteFallback | null

  constructor(text: string, where: string) {
    try {
      const json = JSON.parse(text) as TokenizerJson
      this.#library = new Library(json, {})
      const vocabulary = this.#library.get_vocab(true)
      // One by one: as arguments of one call, the 128,256 ids of Llama 3 do not fit the stack.
      let most = -1
      for (const id of vocabulary.values()) if (id > most) most = id
      this.vocabulary = most + 1
      this.name = `${json.model?.type ?? 'tokenizer'}-${this.vocabulary}`
      const literal = new Set((json.added_tokens ?? []).map(({ content }) => content))
      const isByteLevel = usesByteLevel(json.decoder) || usesByteLevel(json.pre_tokenizer)
      this.#bytes = new Array<Uint8Array | null>(this.vocabulary).fill(null)
      this.#lengths = new Uint16Array(this.vocabulary)
      for (const [token, id] of vocabulary) {
        this.#bytes[id] = isByteLevel && !literal.has(token) ? bytesOfCharacters(token) : null
        this.#lengths[id] = this.#bytes[id]?.length ?? plainBytes(token, json.decoder?.type === 'WordPiece')
      }
      this.#byteFallback = byteFallbackOf(json, vocabulary)
    } catch (cause) {
      throw new WorldlmError(
        'TOKENIZER_INVALID',
        `${where} is no tokenizer.json that can be used: ${(cause as Error).message}`,
        'Export it with the tokenizers library, or make one: worldlm model tokenizer --train DIR --vocabulary N --out FILE.',
        { cause }
      )
    }
    if (this.vocabulary === 0)
      throw new WorldlmError('TOKENIZER_INVALID', `${where} has no vocabulary`, 'Give the whole tokenizer.json.')
  }

  encode(text: Bytes, memoryBytesMax: number = memoryBytesDefault): Tokens {
    const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
    const Ids = this.vocabulary > 65_536 ? Uint32Array : Uint16Array
    const spool = new Spool(memoryBytesMax, text.length)
    for (const piece of piecesOf(text, pieceBytes)) {
      spool.add(new Uint8Array(Ids.from(this.#idsOf(utf8.decode(piece))).buffer))
    }
    return new WideTokens(spool.whole(), Ids)
  }

  #idsOf(text: string): number[] {
    const { ids, tokens } = this.#library.encode(text, { add_special_tokens: false })
    const fallback = this.#byteFallback
    if (fallback === null) return ids
    return ids.flatMap((id: number, place: number) => {
      const token = tokens[place]!
      return id === fallback.unknownId && token !== fallback.unknown
        ? Array.from(Buffer.from(token), byte => fallback.ids[byte]!)
        : id
    })
  }

  bytesOf(token: number): number {
    return this.#lengths[token] ?? 0
  }

  decoder(before: number[] = []): TokenDecoder {
    if (this.#bytes.every((bytes, id) => bytes !== null || this.#lengths[id] === 0))
      return byteDecoder(token => this.#bytes[token] ?? new Uint8Array(0))
    return this.#windowDecoder(before)
  }

  /**
   * Tokens whose text depends on their neighbours: a further one is decoded behind those of the last text given, and what that adds is
   * given. Not the whole text each time: that would take longer for every token.
   */
  #windowDecoder(before: number[]): TokenDecoder {
    const decode = (some: number[]) =>
      this.#library.decode(some, { skip_special_tokens: true, clean_up_tokenization_spaces: false })
    let tokens = before.slice(-tokensBefore)
    // Those whose text is given already, and that text.
    let [read, known] = [tokens.length, tokens.length === 0 ? '' : decode(tokens)]
    return {
      push: token => {
        tokens.push(token)
        const text = decode(tokens)
        // A character that is not whole yet is shown as this one.
        if (text.endsWith('\ufffd') || text.length <= known.length) return ''
        const fresh = text.slice(known.length)
        // Only what has text of its own can stand before the next: else that would begin a text.
        const last = tokens.slice(read)
        const own = decode(last)
        if (own === '') known = text
        else [tokens, known] = [last, own]
        read = tokens.length
        return fresh
      },
      end: () => (tokens.length === 0 ? '' : decode(tokens).slice(known.length))
    }
  }
}

interface TokenizerJson {
  model?: { type?: string; byte_fallback?: boolean; unk_id?: number | null; vocab?: unknown }
  decoder?: Component | null
  pre_tokenizer?: Component | null
  added_tokens?: { content: string }[]
}
interface Component {
  type?: string
  decoders?: Component[]
  pretokenizers?: Component[]
}

const usesByteLevel = (component: Component | null | undefined): boolean =>
  component?.type === 'ByteLevel' || [...(component?.decoders ?? []), ...(component?.pretokenizers ?? [])].some(usesByteLevel)

/** The bytes' tokens, which stand for what a vocabulary does not know. */
interface ByteFallback {
  unknown: string
  unknownId: number
  ids: number[]
}

/** Of a Unigram, which the library reads without it; of a BPE it knows it. Null unless all 256 are there, as the tokenizers library has it. */
function byteFallbackOf({ model }: TokenizerJson, vocabulary: Map<string, number>): ByteFallback | null {
  if (model?.type !== 'Unigram' || model.byte_fallback !== true || typeof model.unk_id !== 'number') return null
  const ids = Array.from({ length: 256 }, (_, byte) =>
    vocabulary.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
  )
  if (ids.includes(undefined)) return null
  const [unknown] = (model.vocab as [string, number][])[model.unk_id]!
  return { unknown, unknownId: model.unk_id, ids: ids as number[] }
}

/** Bytes of a token that is not of the byte-level alphabet: `▁` is a space, `<0xNN>` a byte; with word pieces `##` joins. */
function plainBytes(token: string, wordPieces: boolean): number {
  if (/^<0x[0-9A-F]{2}>$/.test(token)) return 1
  const text = wordPieces ? token.replace(/^##/, '') : token
  return Buffer.byteLength(text.replaceAll('▁', ' '))
}

/** Tokens of two bytes each, or four. */
class WideTokens implements Tokens {
  readonly #bytes: Bytes
  readonly #array: typeof Uint16Array | typeof Uint32Array
  readonly length: number

  constructor(bytes: Bytes, array: typeof Uint16Array | typeof Uint32Array) {
    this.#bytes = bytes
    this.#array = array
    this.length = bytes.length / array.BYTES_PER_ELEMENT
  }

  subarray(from: number, to: number): Uint16Array | Uint32Array {
    const each = this.#array.BYTES_PER_ELEMENT
    const { buffer, byteOffset, length } = this.#bytes.subarray(from * each, to * each)
    return new this.#array(buffer as ArrayBuffer, byteOffset, length / each)
  }
}

/** Pieces of about so many bytes, which end behind a line, or else between two characters. */
export function* piecesOf(text: Bytes, bytes: number): Generator<Uint8Array> {
  for (let from = 0; from < text.length; ) {
    // With the byte behind it: it tells whether a character ends here.
    const block = text.subarray(from, from + bytes + 1)
    const piece = block.subarray(0, block.length <= bytes ? block.length : endOfPiece(block, bytes))
    yield piece
    from += piece.length
  }
}

function endOfPiece(block: Uint8Array, bytes: number): number {
  const line = block.lastIndexOf(0x0a, bytes - 1)
  if (line > 0) return line + 1
  let end = bytes
  while (end > 0 && (block[end]! & 0xc0) === 0x80) end--
  return end
}
