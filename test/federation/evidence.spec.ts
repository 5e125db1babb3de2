/** Two acceptances of one voter for one place (docs/protocol.md, "Members that leave, lie, or are gone"), with real keys and real proofs. */
import assert from 'node:assert/strict'
import { type Acceptance, Evidence, type EvidenceMessage } from '../../src/federation/evidence.ts'
import { signedProofs } from '../../src/node/evidence.ts'
import type { Certificate, Evicted, Update } from '../../src/federation/entry.ts'
import { checkEvidence, evidenceOf } from '../../src/wire/member-proofs.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { acceptBytes } from '../../src/wire/signature.ts'
import { TestPeer } from '../wire/peers.ts'
import { testCharter } from './charters.ts'
import { FederationBench, updateOf } from './federation-bench.ts'

const [federation, one, other] = [linkOf(Uint8Array.of(0)), linkOf(Uint8Array.of(1)), linkOf(Uint8Array.of(2))]
const [self, liar, honest, stranger] = ['self', 'liar', 'honest', 'stranger'].map(name => new TestPeer(name)) as [
  TestPeer,
  TestPeer,
  TestPeer,
  TestPeer
]

const accepts = (who: TestPeer, link: string, index = 7, term = 3): Acceptance => ({
  index,
  term,
  link,
  signature: who.sign(acceptBytes(federation, index, term, link))
})
const certificate = (link: string, ...voters: TestPeer[]): Certificate => ({
  federation,
  index: 7,
  term: 3,
  entry: link,
  signatures: voters.map(who => ({ voter: who.peer, signature: accepts(who, link).signature }))
})

/** A peer in a federation of itself, the liar and the honest one, and all that it said and did. */
class Watcher {
  readonly said: EvidenceMessage[] = []
  readonly accused: string[] = []
  readonly faults: string[] = []
  readonly bench = new FederationBench({ id: federation, charter: testCharter(), self: self.peer })
  readonly evidence: Evidence

  constructor() {
    const watcher = this
    this.evidence = new Evidence({
      get state() {
        return watcher.bench.state
      },
      speakers: () => new Set([self.peer, liar.peer, honest.peer]),
      ...signedProofs(() => federation),
      say: message => this.said.push(message),
      accuse: ({ peer }) => this.accused.push(peer),
      fault: (_, code) => this.faults.push(code)
    })
  }

  proof(): Evicted {
    const told = this.said.find(({ kind }) => kind === 'evidence')
    assert.ok(told?.kind === 'evidence')
    return told.evicted
  }
}

describe('evidence of two acceptances', () => {
  it('is found whichever way the second comes, said with a proof that anyone can check, and accuses', () => {
    const ways: ((watcher: Watcher) => void)[] = [
      ({ evidence }) => evidence.see(liar.peer, accepts(liar, other)),
      ({ evidence }) => evidence.seeAll(certificate(other, honest, liar))
    ]
    for (const way of ways) {
      const watcher = new Watcher()
      assert.ok(watcher.evidence.see(liar.peer, accepts(liar, one)))
      way(watcher)
      assert.deepEqual([watcher.accused, watcher.faults], [[liar.peer], ['TWO_ACCEPTANCES']])
      assert.equal(checkEvidence(federation, watcher.proof()), null)
    }
  })

  const innocent: { why: string; second: (evidence: Evidence) => void }[] = [
    { why: 'the same again', second: evidence => evidence.see(liar.peer, accepts(liar, one)) },
    { why: 'another index', second: evidence => evidence.see(liar.peer, accepts(liar, other, 8)) },
    { why: 'another term', second: evidence => evidence.see(liar.peer, accepts(liar, other, 7, 4)) },
    { why: 'signed by another', second: evidence => evidence.see(liar.peer, accepts(honest, other)) },
    { why: 'told of another federation', second: evidence => evidence.seeAll({ ...certificate(other, liar), federation: one }) }
  ]
  for (const { why, second } of innocent)
    it(`is not: ${why}`, () => {
      const { evidence, accused, said } = new Watcher()
      evidence.see(liar.peer, accepts(liar, one))
      second(evidence)
      assert.deepEqual([accused, said], [[], []])
    })

  it('is no proof, but a fault, of two updates of one organization for one round: a restored disk makes them, too', () => {
    const first = updateOf(liar.peer, { round: 2, base: one })
    const rows: { why: string; link: string; update: Update; fault: boolean }[] = [
      { why: 'another for the same round', link: 'u2', update: { ...first, weight: 1 }, fault: true },
      { why: 'the same again', link: 'u1', update: first, fault: false },
      { why: 'of another round', link: 'u2', update: { ...first, round: 3 }, fault: false },
      { why: 'on another base', link: 'u2', update: { ...first, base: other }, fault: false },
      { why: 'of another member', link: 'u2', update: updateOf(honest.peer, { round: 2, base: one }), fault: false }
    ]
    for (const { why, link, update, fault } of rows) {
      const { evidence, bench, faults, accused } = new Watcher()
      bench.state = { ...bench.state, known: bench.state.known.with({ link: 'u1', update: first }) }
      evidence.seeUpdate(link, update)
      assert.deepEqual([faults, accused], [fault ? ['TWO_UPDATES'] : [], []], why)
    }
    // A child's delegates each hand one contribution in.
    const { evidence, bench, faults } = new Watcher()
    const contribution = updateOf('child', { by: liar.peer, term: 1 })
    bench.state = { ...bench.state, known: bench.state.known.with({ link: 'u1', update: contribution }) }
    for (const by of [liar.peer, honest.peer]) evidence.seeUpdate('u2', { ...contribution, by })
    assert.deepEqual(faults, [])
  })

  it('is of peers of the federation alone, and never of oneself', () => {
    const { evidence, accused } = new Watcher()
    for (const link of [one, other]) {
      evidence.see(stranger.peer, accepts(stranger, link))
      evidence.see(self.peer, accepts(self, link))
    }
    assert.deepEqual(accused, [])
    assert.equal(evidence.see(liar.peer, accepts(honest, one)), false)
    assert.equal(evidence.see(stranger.peer, accepts(honest, one)), false)
  })

  it('believes no signature but of the entry that it is on, whatever of that peer is known already', () => {
    const { evidence, accused } = new Watcher()
    assert.equal(evidence.see(liar.peer, accepts(liar, one)), true)
    assert.equal(evidence.see(liar.peer, accepts(liar, one)), true)
    for (const forged of [
      { ...accepts(liar, one), link: other },
      { ...accepts(liar, one), signature: accepts(liar, other).signature },
      { ...accepts(liar, one), index: 8 },
      { ...accepts(liar, one), signature: new Uint8Array() }
    ])
      assert.equal(evidence.see(liar.peer, forged), false)
    assert.deepEqual(accused, [])
  })

  it('of another is believed if it proves something, and a false proof is its teller’s fault', () => {
    const finder = new Watcher()
    finder.evidence.seeAll(certificate(one, liar))
    finder.evidence.seeAll(certificate(other, liar))
    const { evidence, accused, faults } = new Watcher()
    evidence.onEvidence(honest.peer, { ...finder.proof(), peer: honest.peer })
    assert.deepEqual([accused, faults], [[], ['BAD_EVIDENCE']])
    evidence.onEvidence(honest.peer, finder.proof())
    assert.deepEqual(accused, [liar.peer])
  })

  it('of peers that have no place is nothing: anyone makes up as many as he likes that signed twice', () => {
    const { evidence, accused, faults } = new Watcher()
    const signatures = [one, other].map(link => accepts(stranger, link).signature) as [Uint8Array, Uint8Array]
    const evicted = evidenceOf(stranger.peer, { index: 7, term: 3, entries: [one, other], signatures })
    assert.equal(checkEvidence(federation, evicted), null)
    evidence.onEvidence(liar.peer, evicted)
    assert.deepEqual([accused, faults], [[], []])
  })

  it('is found of one, however much another signs in between', () => {
    const { evidence, accused } = new Watcher()
    evidence.see(liar.peer, accepts(liar, one))
    for (let index = 0; index < 1100; index++) evidence.see(honest.peer, accepts(honest, one, index))
    evidence.see(liar.peer, accepts(liar, other))
    assert.deepEqual(accused, [liar.peer])
  })

  it('is said again until the log has evicted the liar', () => {
    const { evidence, said, bench } = new Watcher()
    evidence.seeAll(certificate(one, liar))
    evidence.seeAll(certificate(other, liar))
    evidence.again()
    assert.equal(said.length, 2)
    bench.state = { ...bench.state, roster: { ...bench.state.roster, evicted: new Set([liar.peer]) } }
    evidence.again()
    evidence.again()
    assert.equal(said.length, 2)
  })

  it('is made possible by voters that tell of their acceptance, and of the proposer’s own', () => {
    const { evidence, said } = new Watcher()
    evidence.see(liar.peer, accepts(liar, one))
    evidence.tell(accepts(self, one), liar.peer)
    assert.deepEqual(said, [{ kind: 'accepts', accepts: certificate(one, self, liar) }])
  })
})
