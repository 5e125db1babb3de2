/** When a bridge looks: what it carries stands in federation/residuals.ts, and is run between real processes in test/slow. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer, Question } from '../../src/wire/messages.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { Bridge, type BridgedNode } from '../../src/node/residual-bridge.ts'
import { testCharter } from '../federation/charters.ts'

const shown = { signed: { record: new Uint8Array(), by: 'p', signature: new Uint8Array(64) }, lineage: [] }

function bridged(name: string): BridgedNode {
  const federation = name[0]!
  const path = `world/${federation}/${name}`
  return {
    node: { node: name, federation, branch: federation },
    floats: Float32Array.of(1, 2),
    shown,
    line: [],
    place: { path, kind: 'organization' }
  }
}

describe('a bridge of residuals', () => {
  it('looks a while after a round, also where the next rounds are certified before that', async function () {
    this.timeout(20_000)
    const asked: Question[] = []
    const charter = testCharter()
    // What a bridge needs of its federation: who it is, its charter, and a way to ask.
    const services = { log: { debug: () => undefined } }
    const core = {
      self: 'p',
      stopped: false,
      options: {
        services,
        charter: { ...charter, algorithm: { ...charter.algorithm, residuals: { perNode: 1, minSimilarity: 0, dropAfter: 2 } } }
      },
      ask: async (_peer: string, question: Question): Promise<Answer | null> => {
        asked.push(question)
        return null
      }
    } as unknown as FederationCore
    let round = 0
    const bridge = new Bridge({
      core,
      nodes: () => new Map(['a1', 'b1'].map(name => [name, bridged(name)])),
      living: () => new Set(['p']),
      rounds: () => [{ branch: null, round: ++round }]
    })
    for (let ticks = 0; ticks < 100 && asked.length === 0; ticks++) {
      bridge.tick()
      await sleep(100)
    }
    assert.ok(round > 5, 'it lets fingerprints come in first')
    assert.deepEqual(asked.map(question => question.kind === 'residual' && question.from).sort(), ['a1', 'b1'])
  })
})
