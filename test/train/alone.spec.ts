/** Training alone: each organization by itself, whatever the others are called. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { OrganizationText } from '../../src/data/text-tree.ts'
import { completeCharter } from '../../src/governance/charter-schema.ts'
import { trainAlone } from '../../src/train/alone.ts'
import { textOf, writeTree } from '../temporary.ts'

const charter = completeCharter(
  {
    name: 'w',
    model: { layers: 1, width: 16, hidden: 32, heads: 2, context: 32, vocabulary: 256 },
    algorithm: { rounds: 2, steps: 3, batch: 2, warmupSteps: 0 }
  },
  { founders: [], parent: null }
)

describe('training alone', () => {
  it('keeps organizations apart whose paths differ only in where the dashes and the slashes stand', async () => {
    const root = writeTree({ 'a-b/c/t.txt': textOf(9000, 'sea'), 'a/b-c/t.txt': textOf(9000, 'sky') })
    const texts: OrganizationText[] = ['a-b/c', 'a/b-c'].map(path => ({ path, folder: join(root, path) }))
    const train = (some: OrganizationText[], workers: number) =>
      trainAlone({
        charter,
        initial: null,
        texts: some,
        tokenizer: null,
        seed: 1,
        validationTokens: 256,
        workers,
        onProgress: () => {},
        signal: new AbortController().signal
      })
    const together = await train(texts, 2)
    const apart = [...(await train(texts.slice(0, 1), 1)), ...(await train(texts.slice(1), 1))]
    assert.deepEqual(together, apart)
  })
})
