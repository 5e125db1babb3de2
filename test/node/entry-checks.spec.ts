/** What a voter asks for before it checks an entry: more updates than one answer holds. */
import assert from 'node:assert/strict'
import type { Link } from '../../src/ids.ts'
import { fetchMissing } from '../../src/node/entry-checks.ts'
import { limits } from '../../src/wire/limits.ts'
import type { Answer, Question } from '../../src/wire/messages.ts'
import { LogBuilder } from '../wire/peers.ts'

describe('updates of a proposed entry', () => {
  const builder = new LogBuilder()
  const names = Array.from({ length: 2 * limits.fetchUpdatesMax + 7 }, (_, place) => `member ${place}`)
  const entry = builder.roundEntry(names)

  /** Of a peer that gives what it has, a page at a time. */
  function voter(given: ReadonlyMap<Link, Uint8Array>) {
    const kept = new Map<Link, Uint8Array>()
    const asked: number[] = []
    return {
      asked,
      signedUpdates: kept,
      id: builder.id,
      keepUpdate: (link: Link, bytes: Uint8Array) => void kept.set(link, bytes),
      ask: async (_: string, question: Question): Promise<Answer | null> => {
        if (question.kind !== 'updates') return null
        asked.push(question.links.length)
        return {
          kind: 'updates',
          updates: question.links.flatMap(link => given.get(link) ?? []).slice(0, limits.fetchUpdatesMax)
        }
      }
    }
  }

  it('are asked for page by page until all are here', async () => {
    const node = voter(builder.updates)
    await fetchMissing(node, 'proposer', entry)
    assert.deepEqual(new Set(node.signedUpdates.keys()), new Set(entry.inputs.map(({ update }) => update)))
    assert.deepEqual(node.asked, [limits.fetchUpdatesMax, limits.fetchUpdatesMax, 7])
  })

  it('are asked for no more when nothing new comes', async () => {
    const few = new Map([...builder.updates].slice(0, 3))
    const node = voter(few)
    await fetchMissing(node, 'proposer', entry)
    assert.ok(node.asked.length <= 2, `${node.asked.length} questions`)
    assert.ok(node.signedUpdates.size <= 3)
  })
})
