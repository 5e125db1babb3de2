/** Which known word was meant by one that is not known: for messages that say what to do next. */

/** The known name with the fewest edits, if it is near enough to be meant. */
export function nearest(name: string, known: string[]): string | null {
  const ranked = known
    .map(other => ({ other, edits: edits(name.toLowerCase(), other.toLowerCase()) }))
    .sort((left, right) => left.edits - right.edits)
  const best = ranked[0]
  return best !== undefined && best.edits <= Math.max(2, name.length / 3) ? best.other : null
}

/** Levenshtein distance. */
function edits(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, place) => place)
  for (let i = 1; i <= left.length; i++) {
    const next = [i]
    for (let j = 1; j <= right.length; j++)
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (left[i - 1] === right[j - 1] ? 0 : 1))
    row = next
  }
  return row[right.length]!
}
