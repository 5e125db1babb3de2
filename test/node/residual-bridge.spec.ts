/** When a bridge looks: what it carries stands in federation/residuals.ts, and is run between real processes in test/slow. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer, Question } from '../../src/wire/messages.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { bridgedMax } from '../../src/federation/residuals.ts'
import { Bridge, type BridgedNode } from '../../src/node/residual-bridge.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { signGrant } from '../../src/wire/residual-records.ts'
import { testCharter } from '../federation/charters.ts'
import { peerOf } from '../wire/peers.ts'

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

/** What a bridge needs of its federation: who it is, its charter, ways to ask and to fetch. */
function coreOf(
  ask: (peer: string, question: Question) => Answer | null | Promise<null>,
  pull: (blob: string) => Promise<void> = async () => undefined
): FederationCore {
  const charter = testCharter()
  const services = { log: { debug: () => undefined }, exchange: { pull } }
  const residuals = { perNode: 1, minSimilarity: 0, dropAfter: 2 }
  return {
    self: 'p',
    stopped: false,
    options: { services, charter: { ...charter, algorithm: { ...charter.algorithm, residuals } } },
    ask: async (peer: string, question: Question) => ask(peer, question)
  } as unknown as FederationCore
}

describe('a bridge of residuals', () => {
  it('looks a while after a round, also where the next rounds are certified before that', async function () {
    this.timeout(20_000)
    const asked: Question[] = []
    let round = 0
    const bridge = new Bridge({
      core: coreOf((_peer, question) => {
        asked.push(question)
        return null
      }),
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

  it('knows whom it brought a residual for a while after it is gone: who is slow asks for nothing forbidden', async () => {
    const [source, { peer: target }] = [peerOf('source'), peerOf('target')]
    const [from, to] = [bridged('a1'), bridged('b1')]
    from.node.node = source.peer
    to.node.node = target
    const model = linkOf(Uint8Array.of(1))
    const grant = signGrant(source.sign, { from: source.peer, to: target, model, modelBytes: 1, textBytes: 1 })
    let round = 1
    const core = coreOf((_peer, question) => {
      if (question.kind === 'offer') return { kind: 'offer', verdict: question.held ? 'take' : 'wanted', detail: '' }
      const isFirst = round === 1 && question.kind === 'residual' && question.from === source.peer
      return isFirst ? { kind: 'residual', grant, forbidden: false, detail: '' } : null
    })
    const nodes = () => new Map([from, to].map(one => [one.node.node, one]))
    const rounds = () => [{ branch: null, round }]
    const bridge = new Bridge({ core, nodes, living: () => new Set(['p']), rounds })
    const isKept: boolean[] = []
    const isReader: boolean[] = []
    let clockMs = 0
    const { now } = performance
    performance.now = () => clockMs
    try {
      for (; round <= 20; round++) {
        bridge.tick()
        clockMs += 10_000
        bridge.tick()
        await sleep(5)
        isKept.push([...bridge.needed].includes(model))
        isReader.push(bridge.readersOf(model)?.has(target) ?? false)
      }
    } finally {
      performance.now = now
    }
    const times = (all: boolean[]) => all.filter(Boolean).length
    assert.ok(isKept[0] && isReader[0], 'it was brought')
    assert.ok(times(isKept) < times(isReader) && times(isReader) < 20, `${isKept}, ${isReader}`)
    assert.equal(isKept.lastIndexOf(true) + 1, times(isKept))
    assert.equal(isReader.lastIndexOf(true) + 1, times(isReader))
  })

  /** Of one source and one target; `looks` of the bridge go by as fast as it can ask. */
  function carrying(answer: (question: Question) => Answer | null | Promise<null>, pull?: (blob: string) => Promise<void>) {
    const [source, { peer: target }] = [peerOf('source'), peerOf('target')]
    const [from, to] = [bridged('a1'), bridged('b1')]
    from.node.node = source.peer
    to.node.node = target
    let round = 0
    let clockMs = 0
    const bridge = new Bridge({
      core: coreOf((_peer, question) => answer(question), pull),
      nodes: () => new Map([from, to].map(one => [one.node.node, one])),
      living: () => new Set(['p']),
      rounds: () => [{ branch: null, round }]
    })
    const look = async () => {
      const { now } = performance
      performance.now = () => clockMs
      try {
        round++
        bridge.tick()
        clockMs += 10_000
        bridge.tick()
      } finally {
        performance.now = now
      }
      await sleep(5)
    }
    return { bridge, look, source, target }
  }

  const model = linkOf(Uint8Array.of(1))
  const granted = (source: ReturnType<typeof peerOf>, to: string): Answer => {
    const grant = signGrant(source.sign, { from: source.peer, to, model, modelBytes: 1, textBytes: 1 })
    return { kind: 'residual', grant, forbidden: false, detail: '' }
  }

  it('gives nobody but the target what is still on its way', async () => {
    const readers: (ReadonlySet<string> | null)[] = []
    const { bridge, look, source, target } = carrying(
      question =>
        question.kind === 'offer'
          ? { kind: 'offer', verdict: question.held ? 'take' : 'wanted', detail: '' }
          : question.kind === 'residual' && question.from === source.peer
            ? granted(source, target)
            : null,
      async blob => void readers.push(bridge.readersOf(blob))
    )
    await look()
    assert.deepEqual(readers, [new Set([target])])
  })

  it('offers no target what its source granted to another: the target would seem to be gone', async () => {
    const asked: string[] = []
    const { look, source } = carrying(question => {
      asked.push(question.kind)
      return question.kind === 'residual' && question.from === source.peer ? granted(source, peerOf('other').peer) : null
    })
    await look()
    assert.deepEqual(asked, ['residual', 'residual'])
  })

  it('asks for what it has not begun once, however many rounds go by while nobody answers', async () => {
    let asked = 0
    const held: (() => void)[] = []
    const { look } = carrying(() => {
      asked++
      return new Promise<null>(resolve => held.push(() => resolve(null)))
    })
    for (let rounds = 0; rounds < 50; rounds++) await look()
    assert.equal(asked, bridgedMax)
    while (held.length > 0) {
      for (const answer of held.splice(0)) answer()
      await sleep(5)
    }
    // Two pairs a round: those of the last one, at most, besides what was begun.
    assert.ok(asked <= bridgedMax + 2, `${asked}`)
  })
})
