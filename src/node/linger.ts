/** How long a node that goes still helps those that stay. */

/** Of a federation that it has left it goes on answering: the others may lack an entry, or a signed update, that it has. */
export const lingerMs = 8_000
const lookEveryMs = 250

/** Resolves when nobody has fetched anything for a moment, at the latest after `lingerMs`. @param bytes - of the blob exchange. */
export async function untilNothingFlows(bytes: Readonly<{ out: number }>): Promise<void> {
  for (const began = performance.now(); performance.now() - began < lingerMs; ) {
    const before = bytes.out
    await new Promise(resolve => setTimeout(resolve, lookEveryMs))
    if (bytes.out === before) return
  }
}
