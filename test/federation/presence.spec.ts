/** Who is there: what was heard of whom and when, held to a plain account; and the order of strength. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { LastHeard, presencesAway, presencesMissed, rankAmong } from '../../src/federation/presence.ts'

describe('who was heard', () => {
  const presenceMs = 1000
  const peers = [...'abc']

  it('is silent after four presences, away after thirty, counted from the start for who was never heard; hearsay counts for who is new', () => {
    const event = fc.record({ peer: fc.constantFrom(...peers), passMs: fc.nat(9_000), fresh: fc.boolean() })
    fc.assert(
      fc.property(fc.array(event, { maxLength: 30 }), events => {
        const heard = new LastHeard()
        const plain = new Map<string, number>()
        let nowMs = 5_000
        assert.deepEqual(heard.away(peers, nowMs, presenceMs), [])
        const beganMs = nowMs
        for (const { peer, passMs, fresh } of events) {
          nowMs += passMs
          const counts = fresh || !plain.has(peer)
          if (counts) plain.set(peer, nowMs)
          assert.equal(heard.hear(peer, nowMs, fresh), counts)
          const since = (name: string) => nowMs - (plain.get(name) ?? beganMs)
          assert.deepEqual(
            heard.away(peers, nowMs, presenceMs),
            peers.filter(name => since(name) > presencesAway * presenceMs)
          )
          const silent = (name: string) => !plain.has(name) || since(name) > presencesMissed * presenceMs
          assert.deepEqual(heard.silent(new Set(peers), nowMs, presenceMs), peers.filter(silent))
        }
      })
    )
  })
})

describe('the order of strength', () => {
  it('gives each voter a place of its own from 0, the strongest, to 1, equal ones as they stand in the list', () => {
    const strengths = { a: 1, b: 5, c: 5, d: 9, e: 0 }
    const rank = (voters: string[]) =>
      voters.map(self => rankAmong(voters, self, peer => strengths[peer as keyof typeof strengths]))
    assert.deepEqual(rank([...'abcde']), [0.75, 0.25, 0.5, 0, 1])
    assert.deepEqual(rank(['e', 'a']), [1, 0])
    assert.deepEqual(rank(['a']), [0])
    assert.equal(
      rankAmong(['a', 'b'], 'z', () => 1),
      0,
      'who does not vote has none'
    )
  })
})
