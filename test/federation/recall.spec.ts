/** A peer whose memory of its votes may be an old copy (docs/protocol.md, "Old memories"): what it does until it knows, and after. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { isAwaiting, type Recalled, recallBeats, unanswered } from '../../src/federation/recall.ts'
import { entryAt, linkOf, Peer, signatureOf, timing } from './consensus-bench.ts'
import { storm } from './storm.ts'

const others = ['b', 'c', 'd', 'e']
const told = (told: Partial<Recalled> = {}) =>
  ({ type: 'recalled', term: 1, commitIndex: 0, acceptedTerm: 0, accepted: null, voters: ['a', ...others], ...told }) as const
const vote = (term: number, commitIndex = 0, acceptedTerm = 0) => ({ type: 'vote', term, commitIndex, acceptedTerm }) as const
const memory = { term: 1, votedFor: 'b', fromDisk: true, signed: { index: 0, term: 0 } }

const started = (start = {}) => new Peer({ ...memory, ...start }).on({ type: 'start' })
/** All others have answered. */
const whole = (start = {}, answer = told()) => {
  const peer = started(start)
  for (const from of others) peer.hears(from, answer)
  return peer.forget()
}
const grants = (peer: Peer, term: number, commitIndex = 0, acceptedTerm = 0): boolean =>
  peer
    .forget()
    .hears('c', vote(term, commitIndex, acceptedTerm))
    .sent('vote-reply')[0]?.message.granted ?? false
const beats = (peer: Peer, count: number): Peer => {
  for (let beat = 0; beat < count; beat++) peer.timer('recall')
  return peer
}

describe('a peer with a memory from a disk', () => {
  it('asks all others where they stand, again and again, and neither votes, nor stands, nor accepts until all have told', () => {
    const peer = started()
    assert.deepEqual(
      peer.sent('recall').map(({ to }) => to),
      others
    )
    for (const from of ['b', 'c', 'd']) peer.hears(from, told())
    peer.forget().timer('recall')
    assert.deepEqual(
      peer.sent('recall').map(({ to }) => to),
      ['e']
    )
    const entry = entryAt(1, 'x')
    peer.forget().timer('election').hears('b', { type: 'pre-vote', term: 2, commitIndex: 0, acceptedTerm: 0 })
    peer.hears('b', { type: 'propose', term: 2, link: linkOf(entry), entry, signature: signatureOf('b') })
    assert.deepEqual([peer.done().includes('check'), peer.sent('pre-vote-reply'), grants(peer, 3)], [false, [], false])
    peer.hears('e', told())
    assert.equal(grants(peer, 4), true)
  })

  it('tells others where it stands itself, in doubt or not, and what it has accepted, by hearsay not', () => {
    const entry = entryAt(1, 'x', undefined, ['a', 'b', 'c', 'd'])
    const peer = started({ accepted: { index: 1, term: 1, link: linkOf(entry), entry } })
    peer.hears('b', { type: 'recall' })
    const answer = {
      type: 'recalled',
      term: 1,
      commitIndex: 0,
      acceptedTerm: 1,
      accepted: linkOf(entry),
      signedFor: null,
      voters: ['a', 'b', 'c', 'd']
    }
    assert.deepEqual(peer.sent('recalled'), [{ to: 'b', message: answer }])
    const heard = whole({}, told({ term: 3, acceptedTerm: 3 })).hears('b', { type: 'recall' })
    assert.equal(heard.sent('recalled')[0]?.message.acceptedTerm, 0)
  })

  it('takes the highest term over, with the vote in it spent, and stores that first (I2)', () => {
    const peer = whole({}, told({ term: 5 }))
    assert.deepEqual([peer.state.term, grants(peer, 5), grants(peer, 6)], [5, false, true])
    const stored = started()
    for (const from of others) stored.forget().hears(from, told({ term: 5 }))
    assert.deepEqual([stored.find('persist').at(-1)?.term, stored.find('persist').at(-1)?.votedFor], [5, 'a'])
    const following = (answer: Recalled) => {
      const peer = started().hears('b', { type: 'heartbeat', term: 1, commitIndex: 0 })
      for (const from of others) peer.hears(from, { type: 'recalled', ...answer })
      return peer.state.aggregator
    }
    assert.deepEqual([following(told()), following(told({ term: 5 }))], ['b', null], 'who led in an earlier term leads no more')
    const sameTerm = whole({ votedFor: null })
    assert.equal(grants(sameTerm, 1), false, 'it may have voted in its own term, too')
  })

  it('votes as if it had accepted what anybody has, and is elected by nobody who does not have it', () => {
    const peer = started()
    for (const from of ['b', 'c', 'd']) peer.hears(from, told())
    peer.hears('e', told({ term: 4, acceptedTerm: 4 }))
    assert.deepEqual([grants(peer, 5, 0, 3), grants(peer, 6, 0, 4)], [false, true])
    const stands = peer.forget().timer('election').timer('election')
    assert.deepEqual([stands.state.role, stands.sent('pre-vote')], ['follower', []])
    assert.equal(stands.find('start-timer').at(-1)?.name, 'election', 'it looks again: what it lacks may be settled by then')
    peer.certified(entryAt(1, 'x'), 6)
    assert.equal(grants(peer, 7, 1, 0), true, 'what is certified is settled')
  })

  it('waits for the entries of those that are further, and then for all who vote by them', () => {
    const peer = started()
    for (const from of ['b', 'c', 'd']) peer.hears(from, told())
    peer.forget().hears('e', told({ commitIndex: 1 }))
    assert.deepEqual([peer.find('fetch')[0]?.from, grants(peer, 2)], ['e', false])
    peer.forget().certified(entryAt(1, 'x', undefined, ['a', 'b', 'c', 'e', 'f']), 2)
    assert.deepEqual([peer.sent('recall').map(({ to }) => to), grants(peer, 3, 1)], [['f'], false])
    peer.hears('f', told({ commitIndex: 1 }))
    assert.equal(grants(peer, 4, 1), true)
  })

  it('asks those, too, who vote by an entry that somebody has accepted: it may have gone on with them', () => {
    const peer = started()
    for (const from of ['b', 'c', 'd']) peer.hears(from, told())
    peer.forget().hears('e', told({ acceptedTerm: 1, voters: ['a', ...others, 'f'] }))
    assert.deepEqual([peer.sent('recall').map(({ to }) => to), grants(peer, 2, 0, 1)], [['f'], false])
    peer.hears('f', told())
    assert.equal(grants(peer, 3, 0, 1), true)
  })

  it('takes its memory for the newest after three election timeouts, whoever has not answered', () => {
    const count = recallBeats(timing)
    const peer = beats(started(), 5 * count)
    assert.equal(peer.state.recall?.beatsLeft, count, 'in which it can reach any of them')
    peer.hears('b', told())
    assert.equal(grants(beats(peer, count - 1), 2), false)
    peer.timer('recall')
    assert.deepEqual([peer.state.recall, grants(peer, 3)], [null, true])
  })

  it('leaves it to those that were here meanwhile to stand first: they heard what was announced', () => {
    const peer = beats(started().hears('b', told()), recallBeats(timing) - 1).forget()
    peer.timer('recall')
    const { ms } = peer.find('start-timer').findLast(({ name }) => name === 'election')!
    assert.ok(ms >= timing.electionTimeoutMs, `${ms} ms`)
  })

  it('counts no answer of a peer that lied', () => {
    const peer = started()
    for (const from of ['b', 'c', 'd']) peer.hears(from, told())
    peer.on({ type: 'distrust', peer: 'b' }).hears('b', told()).hears('e', told())
    assert.equal(grants(peer, 2), false)
  })

  it('asks nobody where it is new, is the only voter, or has no memory', () => {
    for (const start of [{ fromDisk: false }, { voters: ['a'] }, { nonce: 7 }])
      assert.deepEqual(started(start).sent('recall'), [], JSON.stringify(start))
  })

  it('listens first where it has the only vote: it may have been given company since', () => {
    const stands = (peer: Peer) => peer.forget().timer('election').done().includes('became-aggregator')
    const alone = started({ voters: ['a'], commitIndex: 2 })
    assert.equal(stands(alone), false)
    alone.hears('z', { type: 'heartbeat', term: 4, commitIndex: 9 })
    assert.deepEqual(alone.find('fetch'), [{ do: 'fetch', from: 'z', fromIndex: 3 }])
    beats(alone, recallBeats(timing) - 1)
    assert.equal(stands(alone), false)
    assert.equal(stands(beats(alone, 1)), true)
    const told = started({ voters: ['a'], commitIndex: 2 }).certified(entryAt(3, 'x', undefined, ['a', 'b', 'c']), 1, ['a'])
    assert.equal(stands(beats(told, recallBeats(timing))), false)
  })

  it('does not where a federation begins, and does with a copy from when it began', () => {
    const begins = { voters: ['a'], term: 0, votedFor: null }
    assert.ok(
      started({ ...begins, fromDisk: false })
        .done()
        .includes('became-aggregator')
    )
    const copy = started(begins)
    assert.equal(
      beats(copy, recallBeats(timing) - 1)
        .done()
        .includes('became-aggregator'),
      false
    )
    const told = copy.certified(entryAt(1, 'x', undefined, ['a', 'b', 'c']), 2, ['a']).forget()
    assert.equal(beats(told, recallBeats(timing)).timer('election').done().includes('became-aggregator'), false)
  })

  it('asks as soon as it becomes a voter, however late', () => {
    const peer = started({ voters: ['b', 'c'] })
    assert.deepEqual([peer.sent('recall'), peer.find('start-timer')], [[], []])
    peer.certified(entryAt(1, 'x', undefined, ['a', 'b', 'c']), 1, ['b', 'c'])
    assert.deepEqual(
      peer.sent('recall').map(({ to }) => to),
      ['b', 'c']
    )
  })
})

describe('a memory that is proven to be old', () => {
  const entry = entryAt(1, 'x')
  /** It trusts itself, nobody having answered, and then meets an entry that it signed. */
  const proven = (start = {}) => beats(started(start).hears('b', told()), 12).forget().certified(entry, 3)

  it('is told once, is on disk, and is waited for without end', () => {
    const peer = proven()
    assert.deepEqual(peer.find('memory-old'), [{ do: 'memory-old', index: 1 }])
    assert.deepEqual([peer.find('persist').at(-1)?.old, grants(beats(peer, 30), 4, 1)], [true, false])
    peer.forget().certified(entryAt(2, 'y', linkOf(entry)), 3)
    assert.deepEqual(peer.find('memory-old'), [])
    for (const from of others) peer.hears(from, told({ term: 3, commitIndex: 2 }))
    assert.equal(grants(peer, 5, 2), true)
    beats(peer.forget(), 12)
    assert.deepEqual([peer.state.old, peer.state.recall, peer.find('persist').at(-1)?.old], [false, null, false])
    const restarted = (...from: string[]) => {
      const again = started({ old: true })
      for (const voter of from) again.hears(voter, told())
      return grants(beats(again, 30), 2)
    }
    assert.deepEqual(
      [restarted(), restarted('b'), restarted('b', 'c', 'd'), restarted(...others)],
      [false, false, false, true],
      'after a restart, too, whoever of the others is there'
    )
  })

  it('is old no more once a majority has elected it, on its disk, too', () => {
    const peer = proven()
    for (const from of others) peer.hears(from, told({ term: 3, commitIndex: 1 }))
    peer.elected()
    assert.deepEqual([peer.state.role, peer.state.old, peer.state.recall], ['leader', false, null])
    const elected = proven()
    for (const from of others) elected.hears(from, told({ term: 3, commitIndex: 1 }))
    elected.timer('election')
    for (const from of ['b', 'c']) elected.hears(from, { type: 'pre-vote-reply', term: 3, granted: true, commitIndex: 1 })
    for (const from of ['b', 'c']) elected.hears(from, { type: 'vote-reply', term: 4, granted: true, commitIndex: 1 })
    assert.deepEqual([elected.state.role, elected.find('persist').at(-1)?.old], ['leader', false])
  })

  it('is not one that remembers its signature, though its log has lost the entry', () => {
    const peer = proven({ signed: { index: 1, term: 3 } })
    assert.deepEqual([peer.find('memory-old'), peer.state.old], [[], false])
    // An index before a term: what it signed later, at an index before, it may have done again in a higher term.
    assert.deepEqual(proven({ signed: { index: 2, term: 1 } }).find('memory-old'), [])
    assert.equal(proven({ signed: { index: 1, term: 2 } }).find('memory-old').length, 1)
    assert.deepEqual(proven({ signed: null }).find('memory-old'), [], 'nor one that does not tell')
    assert.deepEqual(proven({ nonce: 7 }).find('memory-old'), [], 'nor none')
  })

  it('asks again what it was told: who told it may have forgotten it', () => {
    const peer = started({ old: true })
    for (const from of others) peer.hears(from, told({ acceptedTerm: 1 }))
    beats(peer, 12).forget().timer('recall')
    assert.equal(peer.sent('recall').length, 4)
    for (const from of others) peer.hears(from, told())
    peer.timer('recall')
    assert.deepEqual([peer.state.old, peer.state.recall], [false, null])
  })
})

describe('a peer that may have accepted what others hold', () => {
  const entry = entryAt(1, 'x')
  const other = entryAt(1, 'y')
  /** Its own check finds `proposed` wrong. */
  const objects = (start: Parameters<typeof started>[0], proposed: typeof entry) => {
    const peer = started(start)
    for (const from of others) peer.hears(from, told(from === 'b' ? { acceptedTerm: 1, accepted: linkOf(entry) } : {}))
    const link = linkOf(proposed)
    peer.forget().hears('c', { type: 'propose', term: 4, link, entry: proposed, signature: signatureOf('c') })
    peer.on({ type: 'checked', from: 'c', link, term: 4, entry: proposed, ok: false })
    return [peer.sent('refuse').length, peer.find('sign').length]
  }

  it('says nothing where it would refuse: whoever refuses tells that it does not hold it', () => {
    assert.deepEqual(
      [objects({}, entry), objects({}, other)],
      [
        [0, 0],
        [0, 0]
      ]
    )
  })

  it('accepts just that, its memory being proven old: if others refuse it too, nobody else could settle it', () => {
    assert.deepEqual(
      [objects({ old: true }, entry), objects({ old: true }, other)],
      [
        [0, 1],
        [0, 0]
      ]
    )
  })
})

describe('peers that come back with old copies of their disks, in storms', () => {
  it('certify no two entries for an index (I1), sign no two in a term (I2), and go on', () => {
    let olds = 0
    for (let seed = 0; seed < 150; seed++) olds += storm(seed, 30_000, { old: 0.8 }).counts.olds
    assert.ok(olds > 450, `${olds}`)
  })
})

describe('a peer whose log has lost its end', () => {
  const sole = { term: 2, voters: ['a'], fromDisk: true, signed: { index: 2, term: 2 } }
  /** It has listened whether anybody has a newer log. */
  const listened = (start = {}) => beats(new Peer({ ...sole, ...start }).on({ type: 'start' }), recallBeats(timing))

  it('does not certify anew, as the only voter that it knows, what it has certified already (I1)', () => {
    const peer = listened({ commitIndex: 0 }).timer('election')
    assert.equal(peer.state.role, 'follower')
    const [first, second] = [entryAt(1, 'x'), entryAt(2, 'y', '1x')]
    peer.certified(first, 1, ['a']).timer('election')
    assert.equal(peer.state.role, 'follower', 'nor one entry before the end, for it alone can have certified that')
    peer.certified(second, 2, ['a']).timer('election')
    assert.equal(peer.state.role, 'leader')
  })

  it('votes at no index below the entry that enrolled it: what it signed there, in a life that it has forgotten, it cannot tell (I2)', () => {
    const [first, second] = [entryAt(1, 'x'), { ...entryAt(2, 'y', '1x'), enrolled: [{ peer: 'a', nonce: 7 }] }]
    const enrolled = new Peer({ nonce: 7, term: 1, signed: { index: 0, term: 0 } }).certified(first).certified(second, 2, ['b'])
    const { do: _, ...persisted } = enrolled.find('persist').at(-1)!
    assert.deepEqual([persisted.nonce, persisted.signed], [null, { index: 2, term: 2 }])
    const peer = whole(persisted, told({ term: 2 }))
    assert.equal(grants(peer, 3), false)
    assert.equal(grants(peer.certified(first).certified(second, 2, ['b']), 4, 2), true)
  })

  it('leads where its log is whole, and proposes again what was not certified yet', () => {
    assert.equal(listened({ commitIndex: 2 }).timer('election').state.role, 'leader')
    const entry = entryAt(2, 'y')
    const accepted = { index: 2, term: 2, link: linkOf(entry), entry }
    const peer = listened({ commitIndex: 1, accepted }).timer('election')
    assert.deepEqual([peer.state.role, peer.state.commitIndex], ['leader', 2])
  })

  it('grants no vote to who has no more, but to who has what it signed', () => {
    const peer = whole({ signed: { index: 3, term: 1 } })
    assert.equal(grants(peer, 3), false)
    peer.certified(entryAt(1, 'x')).certified(entryAt(2, 'y', '1x'))
    assert.equal(grants(peer, 4, 2), true)
  })
})

describe('whether answers are awaited', () => {
  it('is whether anybody is named whose answer does not count yet', () => {
    const names = ['a', 'b', 'c', 'd']
    const some = fc.uniqueArray(fc.constantFrom(...names))
    const answer = fc.record({ commitIndex: fc.integer({ min: 3, max: 6 }), voters: some })
    const answers = fc.dictionary(fc.constantFrom('b', 'c', 'd'), answer)
    fc.assert(
      fc.property(some, answers, (voters, told) => {
        const rest = { term: 1, acceptedTerm: 0, accepted: null }
        const known = new Map(Object.entries(told).map(([peer, one]) => [peer, { ...rest, ...one }]))
        const recall = { answers: known, beatsLeft: 1, heard: true }
        const standing = { self: 'a', voters, commitIndex: 4, accepted: null, recall }
        assert.equal(isAwaiting(standing), unanswered(standing).length > 0)
        assert.equal(isAwaiting({ ...standing, recall: null }), false)
      })
    )
  })
})
