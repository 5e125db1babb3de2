/**
 * Byte-level BPE from text (Sennrich et al. 2016): the pair that is seen most is merged, again and again. Equal text gives equal merges on
 * any machine: of pairs seen equally often, the one with the smaller ids is merged first.
 */
import { byteCharacters, byteLevelTokenizer } from './byte-level.ts'

/** GPT-2's words: what `ByteLevel` splits text into, and what no token reaches beyond. */
const wordRule = /'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu

/** Ids stay below it: a pair is one number. */
const idsMax = 1 << 24
const keyOf = (left: number, right: number): number => left * idsMax + right

interface Word {
  ids: number[]
  count: number
}

/** Words by their count. @param texts - UTF-8. */
function countWords(texts: Iterable<string>): Word[] {
  const counts = new Map<string, number>()
  for (const text of texts) for (const [word] of text.matchAll(wordRule)) counts.set(word, (counts.get(word) ?? 0) + 1)
  return [...counts].map(([word, count]) => ({ ids: [...Buffer.from(word)], count }))
}

/**
 * @param vocabulary - tokens in all, 256 bytes among them. Fewer come out where no pair is seen twice any more.
 * @param onProgress - merges done, now and then.
 * @returns what tokenizer.json holds, and the merges' number.
 */
export function trainBpe(
  texts: Iterable<string>,
  vocabulary: number,
  onProgress: (merges: number) => void = () => undefined
): { tokenizer: Record<string, unknown>; vocabulary: number } {
  const words = countWords(texts)
  const pairs = new Pairs(words)
  const tokens = [...byteCharacters]
  const merges: [string, string][] = []
  while (tokens.length < vocabulary) {
    const best = pairs.take()
    if (best === null) break
    const [left, right] = best
    merges.push([tokens[left]!, tokens[right]!])
    pairs.merge(left, right, tokens.length)
    tokens.push(tokens[left]! + tokens[right]!)
    if (merges.length % 256 === 0) onProgress(merges.length)
  }
  return { tokenizer: byteLevelTokenizer(merges, { words: true }), vocabulary: tokens.length }
}

/** How often each pair is seen, and in which words; a heap finds the best, and entries that were overtaken are skipped. */
class Pairs {
  readonly #words: Word[]
  readonly #counts = new Map<number, number>()
  readonly #places = new Map<number, Set<number>>()
  readonly #heap: { key: number; count: number }[] = []

  constructor(words: Word[]) {
    this.#words = words
    for (const [place, { ids, count }] of words.entries())
      for (let at = 0; at + 1 < ids.length; at++) this.#add(keyOf(ids[at]!, ids[at + 1]!), count, place)
    for (const [key, count] of this.#counts) this.#push({ key, count })
  }

  /** The pair seen most, at least twice. */
  take(): [number, number] | null {
    for (let top = this.#pop(); top !== null; top = this.#pop()) {
      const { key, count } = top
      if (this.#counts.get(key) !== count) continue
      return count < 2 ? null : [Math.floor(key / idsMax), key % idsMax]
    }
    return null
  }

  /** Replaces the pair by `merged` in every word that holds it. */
  merge(left: number, right: number, merged: number): void {
    const changed = new Set<number>()
    for (const place of this.#places.get(keyOf(left, right)) ?? []) {
      const word = this.#words[place]!
      const before = word.ids
      const after: number[] = []
      for (let at = 0; at < before.length; at++) {
        const here = before[at] === left && before[at + 1] === right
        after.push(here ? merged : before[at]!)
        if (here) at++
      }
      for (let at = 0; at + 1 < before.length; at++) {
        const key = keyOf(before[at]!, before[at + 1]!)
        this.#counts.set(key, this.#counts.get(key)! - word.count)
        changed.add(key)
      }
      for (let at = 0; at + 1 < after.length; at++) {
        const key = keyOf(after[at]!, after[at + 1]!)
        this.#add(key, word.count, place)
        changed.add(key)
      }
      word.ids = after
    }
    this.#counts.delete(keyOf(left, right))
    this.#places.delete(keyOf(left, right))
    for (const key of changed) {
      const count = this.#counts.get(key)
      if (count === undefined) continue
      if (count > 0) this.#push({ key, count })
      else {
        this.#counts.delete(key)
        this.#places.delete(key)
      }
    }
  }

  #add(key: number, count: number, place: number): void {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + count)
    const places = this.#places.get(key)
    if (places === undefined) this.#places.set(key, new Set([place]))
    else places.add(place)
  }

  #before(a: { key: number; count: number }, b: { key: number; count: number }): boolean {
    return a.count > b.count || (a.count === b.count && a.key < b.key)
  }

  #push(entry: { key: number; count: number }): void {
    const heap = this.#heap
    let at = heap.push(entry) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!this.#before(heap[at]!, heap[parent]!)) break
      ;[heap[at], heap[parent]] = [heap[parent]!, heap[at]!]
      at = parent
    }
  }

  #pop(): { key: number; count: number } | null {
    const heap = this.#heap
    const top = heap[0]
    const last = heap.pop()
    if (top === undefined || last === undefined) return null
    if (heap.length === 0) return top
    heap[0] = last
    for (let at = 0; ; ) {
      const [left, right] = [2 * at + 1, 2 * at + 2]
      let best = at
      if (left < heap.length && this.#before(heap[left]!, heap[best]!)) best = left
      if (right < heap.length && this.#before(heap[right]!, heap[best]!)) best = right
      if (best === at) return top
      ;[heap[at], heap[best]] = [heap[best]!, heap[at]!]
      at = best
    }
  }
}
