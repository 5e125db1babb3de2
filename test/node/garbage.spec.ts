/** Which blobs a node keeps: all that a round may still need, in each of its phases; and none that nobody needs. */
import assert from 'node:assert/strict'
import type { RoundEntry } from '../../src/federation/entry.ts'
import type { FederationState } from '../../src/federation/federation-state.ts'
import type { ParentHead } from '../../src/federation/round-state.ts'
import type { Blobs } from '../../src/node/blobs.ts'
import type { FederationNode } from '../../src/node/federation-node.ts'
import { collectGarbage } from '../../src/node/garbage.ts'
import type { Organization } from '../../src/node/organization.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { entryCodec } from '../../src/wire/records.ts'
import { testCharter } from '../federation/charters.ts'
import { FederationBench } from '../federation/federation-bench.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

const blob = (name: string): string => linkOf(new TextEncoder().encode(name))
const parentHead: ParentHead = {
  federation: 'bafyP',
  path: 'world',
  round: 1,
  entry: 'bafyE',
  model: 'parent-model',
  textBytes: 1,
  ancestors: [],
  holders: []
}

interface Node {
  state: FederationState
  rounds?: RoundEntry[]
  residuals?: string[]
  target?: string[]
}

function kept(nodes: Node[], organization: Partial<Organization> | null = null): string[] {
  let needed: ReadonlySet<string> = new Set()
  const blobs = { keep: (links: ReadonlySet<string>) => (needed = links) }
  const federations = nodes.map(({ state, rounds = [], residuals = [], target }) => ({
    state,
    log: { rounds: (count: number) => rounds.slice(-count).map(entry => ({ entry: entryCodec.encode(entry) })) },
    residuals: { needed: residuals },
    target: target === undefined ? null : { needed: target }
  }))
  collectGarbage(blobs as unknown as Blobs, federations as unknown as FederationNode[], organization as Organization | null)
  return [...needed].sort()
}

/** Two members have announced; what comes next is up to the test. */
const announced = (parent: string | null = null) =>
  new FederationBench({ charter: testCharter({ voters: 1, parent }) }, { automatic: false })
    .start()
    .admit('a', 'b')
    .announce('a')
    .announce('b')
const pulled = (bench: FederationBench) =>
  bench.on({ type: 'pulled', link: 'u-a-1', keysDistance: 0 }).on({ type: 'pulled', link: 'u-b-1', keysDistance: 0 })
const made = { modelBytes: 4, contributionBytes: 4, contributionBase: null, sketches: new Uint8Array(), attention: [[], []] }
const measured = { bytesIn: 0, bytesOut: 0, transferSeconds: 0, aggregateSeconds: 0 }

function aggregated(bench: FederationBench, outer: string | null): FederationBench {
  const result = { ...made, measured, model: 'model', outer, contribution: 'contribution' }
  return bench.on({ type: 'aggregated', round: 1, inputs: ['u-a-1', 'u-b-1'], result })
}

describe('a node keeps', () => {
  const inputs = ['blob-a', 'blob-b']

  it('updates that may yet be counted, and those of a round that is being made, though their members have left', () => {
    const bench = announced()
    assert.deepEqual(kept([{ state: bench.state }]), inputs)
    pulled(bench)
    assert.equal(bench.state.round.phase, 'aggregating')
    assert.deepEqual(kept([{ state: { ...bench.state, known: bench.state.known.filter(() => false) } }]), inputs)
  })

  it('what was made below a parent until it has been combined with the parent’s', () => {
    const bench = aggregated(pulled(announced('bafyP')), null)
    assert.equal(bench.state.round.phase, 'waiting-for-parent')
    assert.deepEqual(kept([{ state: bench.state }]), [...inputs, 'contribution', 'model'])
    bench.on({ type: 'parent-head', head: parentHead })
    assert.equal(bench.state.round.phase, 'combining')
    assert.deepEqual(kept([{ state: bench.state }]), [...inputs, 'contribution', 'model', 'parent-model'])
  })

  it('what is proposed, or waits to be while another entry is open: its model and its outer state', () => {
    const bench = pulled(announced())
    const { consensus } = bench.state
    // Taken from a heartbeat between two events: nothing is open yet.
    const open = {
      ...bench.state,
      consensus: { ...consensus, accepted: { index: 3, term: 1, link: 'x', entry: bench.log[1]!.entry } }
    }
    const waiting = new FederationBench({ charter: bench.state.charter }, { automatic: false })
    waiting.state = open
    aggregated(waiting, 'outer')
    assert.deepEqual([waiting.state.round.phase, waiting.state.consensus.accepted?.entry.kind], ['proposing', 'members'])
    assert.deepEqual(kept([{ state: waiting.state }]), [...inputs, 'model', 'outer'])
    const [first] = aggregated(bench, 'outer').rounds
    const accepted = { index: 3, term: 1, link: 'x', entry: first! }
    const voter = { ...bench.state, round: { phase: 'idle' } as const, consensus: { ...consensus, accepted } }
    assert.deepEqual(kept([{ state: { ...voter, known: voter.known.filter(() => false) } }]), ['model', 'outer'])
  })

  it('models of the newest rounds, with their outer states and those above them, and of older ones none', () => {
    const builder = new LogBuilder({ retention: { keepRounds: 2 } }).admit('a', 'b', 'c')
    const round = (place: number) =>
      builder.roundEntry(['a'], {
        model: blob(`model ${place}`),
        outer: place === 2 ? blob('outer 2') : null,
        ancestors: [{ federation: builder.id, path: 'world', entry: builder.id, model: blob(`above ${place}`), textBytes: 1 }]
      })
    const { state } = new FederationBench({ charter: { ...builder.charter, initial: 'initial', tokenizer: 'tokenizer' } })
    assert.deepEqual(
      kept([{ state, rounds: [1, 2, 3].map(round) }]),
      [...['model 2', 'model 3', 'outer 2', 'above 2', 'above 3'].map(blob), 'initial', 'tokenizer'].sort()
    )
  })

  it('residuals under way and in use, its own update until it is settled, and what it trained last', () => {
    const { state } = new FederationBench()
    const builder = new LogBuilder().admit('a')
    const update = builder.update('a', { blob: blob('pending') })
    const link = builder.signUpdate(update)
    const organization = {
      pending: { link, signed: builder.updates.get(link)! },
      newest: { model: 'newest', modelBytes: 4 }
    }
    assert.equal(update.by, peerOf('a').peer)
    assert.deepEqual(
      kept(
        [
          { state, residuals: ['bridged'] },
          { state, target: ['used'] }
        ],
        organization
      ),
      ['bridged', 'newest', blob('pending'), 'used'].sort()
    )
    assert.deepEqual(kept([{ state }], { pending: null, newest: null }), [])
  })
})
