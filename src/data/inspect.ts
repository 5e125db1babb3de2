/** What an organization would train on: figures and samples, for `worldlm data inspect` and for warnings before a run. */
import { cutBefore } from './formats.ts'
import { overlap, WindowSet } from './overlap.ts'
import { blocksOf, type Bytes } from './spool.ts'
import type { LoadedText } from './text-tree.ts'

export interface Inspected {
  path: string
  trainBytes: number
  validBytes: number
  lines: number
  /** In bytes. */
  longestLine: number
  /** Share of the letters, the most frequent first: `Latin`, `Cyrillic`, … */
  scripts: { script: string; share: number }[]
  /** From the beginning, the middle and the end of the training text. */
  samples: string[]
  /** Share of the validation text that stands word for word in the training text. */
  overlap: number
  /** The same, in the training text of the others. */
  overlapWithOthers: number
}

/** Scripts of most of the world's text; what is left is `other`. */
const scripts = (
  'Latin Cyrillic Greek Arabic Hebrew Han Hiragana Katakana Hangul Devanagari Bengali Tamil Telugu Gujarati Gurmukhi Kannada Malayalam ' +
  'Sinhala Thai Lao Khmer Myanmar Tibetan Georgian Armenian Ethiopic Mongolian'
).split(' ')
const patterns = scripts.map(script => ({ script, pattern: new RegExp(`\\p{Script=${script}}`, 'gu') }))

/** Letters are counted in pieces spread over the text; more would not change a share by a percent. */
const countedBytes = 400_000
const pieces = 40
const sampleBytes = 160
/** A share of validation text seen in training from which on figures say little. */
export const overlapWarned = 0.05

/** @param texts - by path. */
export function inspectTexts(texts: Map<string, LoadedText>): Inspected[] {
  const sets = new Map([...texts].map(([path, { train }]) => [path, new WindowSet([train])]))
  return [...texts].map(([path, { train, valid }]) => {
    const others = [...sets].filter(([other]) => other !== path).map(([, set]) => overlap(valid, set))
    return {
      path,
      trainBytes: train.length,
      validBytes: valid.length,
      ...linesOf(train),
      scripts: scriptsOf(train),
      samples: [0, 0.5, 1].map(at => sampleAt(train, Math.floor(at * Math.max(0, train.length - sampleBytes)))),
      overlap: overlap(valid, sets.get(path)!),
      overlapWithOthers: Math.max(0, ...others)
    }
  })
}

/** What a person should know before they believe a figure; empty where nothing is odd. */
export function overlapWarnings(inspected: Pick<Inspected, 'path' | 'overlap' | 'overlapWithOthers'>[]): string[] {
  const percent = (share: number) => `${(share * 100).toFixed(0)} %`
  return inspected.flatMap(({ path, overlap: own, overlapWithOthers: others }) => [
    ...(own > overlapWarned
      ? [
          `${path}: ${percent(own)} of its validation text stands word for word in its training text: its perplexity flatters it`
        ]
      : []),
    ...(others > overlapWarned
      ? [
          `${path}: ${percent(others)} of its validation text stands word for word in another’s training text: what it gains from others flatters them`
        ]
      : [])
  ])
}

function linesOf(text: Bytes): { lines: number; longestLine: number } {
  let [lines, longestLine, length] = [0, 0, 0]
  for (const block of blocksOf(text)) {
    let from = 0
    for (let end = block.indexOf(10); end !== -1; end = block.indexOf(10, from)) {
      lines++
      longestLine = Math.max(longestLine, length + end - from)
      length = 0
      from = end + 1
    }
    length += block.length - from
  }
  if (length > 0) lines++
  return { lines, longestLine: Math.max(longestLine, length) }
}

function scriptsOf(text: Bytes): { script: string; share: number }[] {
  const each = Math.floor(countedBytes / pieces)
  const starts =
    text.length <= countedBytes
      ? [0]
      : Array.from({ length: pieces }, (_, piece) => Math.floor((piece * (text.length - each)) / pieces))
  const sample = starts.map(from => decode(text, from, text.length <= countedBytes ? text.length : from + each)).join('')
  const letters = [...sample.matchAll(/\p{L}/gu)].length
  const counted = patterns.map(({ script, pattern }) => ({ script, count: [...sample.matchAll(pattern)].length }))
  const known = counted.reduce((sum, { count }) => sum + count, 0)
  return [...counted, { script: 'other', count: Math.max(0, letters - known) }]
    .filter(({ count }) => count > 0)
    .map(({ script, count }) => ({ script, share: count / Math.max(1, letters, known) }))
    .sort((left, right) => right.share - left.share)
}

const sampleAt = (text: Bytes, from: number): string => decode(text, from, from + sampleBytes)

/** Whole characters between two places. */
const decode = (text: Bytes, from: number, to: number): string =>
  new TextDecoder().decode(text.subarray(cutBefore(text, from), cutBefore(text, Math.min(to, text.length))))
