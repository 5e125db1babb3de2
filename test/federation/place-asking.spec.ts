/** Whom a peer asks for its place, whoever answers what. */
import assert from 'node:assert/strict'
import { PlaceAsking } from '../../src/federation/place-asking.ts'
import { Random } from '../../src/math/random.ts'

type Says = (peer: string) => string | null | undefined

/** @param says - whom a peer names as the aggregator; undefined: it does not answer. @returns who was asked, in order. */
function ask(times: number, heard: () => string | null, peers: string[], says: Says, asking = new PlaceAsking()): string[] {
  const random = new Random('asking')
  return Array.from({ length: times }, () => {
    const aggregator = heard()
    const peer = asking.whom(
      { self: 'self' },
      aggregator,
      () => peers,
      count => random.below(count)
    )
    assert.ok(peer !== null)
    asking.answered(asking.asked(peer, aggregator), says(peer))
    return peer
  })
}

describe('whom a peer asks for its place', () => {
  it('is its aggregator; anybody when that does not answer, and then its aggregator again', () => {
    const says: Says = peer => (peer === 'gone' ? undefined : null)
    assert.deepEqual(
      ask(3, () => 'gone', ['there'], says),
      ['gone', 'there', 'gone']
    )
  })

  it('is another, each second time, when one that says that it leads never comes to anything', () => {
    const says: Says = peer => (peer === 'there' ? 'leads' : peer)
    const asked = ask(8, () => 'liar', ['liar', 'there'], says)
    assert.deepEqual(asked, ['liar', 'liar', 'liar', 'liar', 'liar', 'there', 'leads', 'there'])
  })

  it('is the one that says that it leads where nobody else is, and again once there was nothing to ask for', () => {
    const asking = new PlaceAsking()
    const lies: Says = peer => peer
    assert.deepEqual(new Set(ask(9, () => 'liar', ['liar'], lies, asking)), new Set(['liar']))
    asking.rest()
    assert.deepEqual(
      ask(5, () => 'liar', ['liar', 'there'], lies, asking),
      ['liar', 'liar', 'liar', 'liar', 'liar']
    )
  })

  it('is nobody where nobody is', () => {
    assert.equal(
      new PlaceAsking().whom(
        { self: 'self' },
        null,
        () => [],
        () => 0
      ),
      null
    )
  })

  it('goes by what the answer says of who leads', () => {
    const asking = new PlaceAsking()
    const answer = (names: string | null | undefined) => asking.answered(asking.asked('asked', 'asked'), names)
    assert.deepEqual([undefined, 'asked', null, 'other'].map(answer), [null, undefined, undefined, 'other'])
  })

  it('is who leads, as another said, though questions of before come to nothing meanwhile: they were lost', () => {
    const asking = new PlaceAsking()
    const lost = Array.from({ length: 5 }, () => asking.asked('leads', 'leads'))
    const whom = () =>
      asking.whom(
        { self: 'self' },
        'leads',
        () => ['leads', 'there'],
        () => 0
      )
    assert.equal(whom(), 'there')
    asking.answered(asking.asked('there', 'leads'), 'leads')
    for (const question of lost) assert.equal(asking.answered(question, undefined), undefined)
    assert.equal(whom(), 'leads')
  })
})
