/** Folders that are gone when the process ends, and trees of text in them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

const made: string[] = []
process.on('exit', () => {
  for (const folder of made) rmSync(folder, { recursive: true, force: true })
})

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'worldlm-test-'))
  made.push(folder)
  return folder
}

/** @param files - content by path. @returns the root. */
export function writeTree(files: Record<string, string | Uint8Array>, root = temporaryFolder()): string {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(root, dirname(path)), { recursive: true })
    writeFileSync(join(root, path), content)
  }
  return root
}

/** Sentences that differ from line to line, by a word: text to train on. */
export function textOf(bytes: number, word = 'river'): string {
  const lines: string[] = []
  for (let line = 0, length = 0; length < bytes; line++) {
    lines.push(`The ${word} number ${line} runs past house ${(line * 7919) % 1009} and ends at bridge ${(line * 31) % 97}.`)
    length += lines.at(-1)!.length + 1
  }
  return lines.join('\n').slice(0, bytes)
}
