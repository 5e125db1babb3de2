/** The open entry, and voters that change with it; how the others are elected: consensus.spec.ts, which names the sources. */
import assert from 'node:assert/strict'
import { entryAt, federation, linkOf, Peer, signatureOf } from './consensus-bench.ts'

const _position = (commitIndex: number, acceptedTerm = 0) => ({ commitIndex, acceptedTerm })

describe('consensus: the open entry', () => {
  const entry = entryAt(1, 'x')
  const link = linkOf(entry)

  it('stores an acceptance before it signs it, and asks for a check before it stores (I2)', () => {
    const peer = new Peer({ term: 2 }).hears('b', { type: 'propose', term: 2, link, entry, signature: signatureOf('b') })
    assert.deepEqual(peer.find('check'), [{ do: 'check', from: 'b', link, term: 2, entry }])
    assert.deepEqual([peer.find('persist').length, peer.find('sign').length], [0, 0])
    peer.forget().on({ type: 'checked', from: 'b', link, term: 2, entry, ok: true })
    assert.deepEqual(peer.done(), ['persist', 'sign'])
    assert.equal(peer.find('persist')[0]?.accepted?.link, link)
  })

  it('forgets an acceptance when its entry is certified; who accepted nothing stores the entry alone', () => {
    const peer = new Peer({ term: 2 }).on({ type: 'checked', from: 'b', link, term: 2, entry, ok: true }).forget()
    peer.certified(entry, 2)
    assert.deepEqual(
      peer.find('persist').map(({ accepted }) => accepted),
      [null]
    )
    const behind = new Peer({ term: 2 }).certified(entry, 2).certified(entryAt(2, 'y', '1x'), 2)
    assert.deepEqual([behind.find('commit').length, behind.find('persist').length], [2, 0])
  })

  it('refuses what its check refused, by name, and signs nothing', () => {
    const peer = new Peer({ term: 2 })
      .hears('b', { type: 'propose', term: 2, link, entry, signature: signatureOf('b') })
      .forget()
    peer.on({ type: 'checked', from: 'b', link, term: 2, entry, ok: false })
    assert.deepEqual(peer.effects, [{ do: 'send', to: 'b', message: { type: 'refuse', term: 2, index: 1, link } }])
    assert.equal(peer.state.accepted, null)
  })

  it('signs one entry a term: the same again when asked again, another never, restarts included (I2)', () => {
    const other = entryAt(1, 'y')
    const accepted = { index: 1, term: 2, link, entry }
    for (const peer of [
      new Peer({ term: 2, accepted }),
      new Peer({ term: 2 }).on({ type: 'checked', from: 'b', link, term: 2, entry, ok: true })
    ]) {
      peer.forget().hears('b', { type: 'propose', term: 2, link, entry, signature: signatureOf('b') })
      assert.equal(peer.find('sign').length, 1)
      peer.forget().hears('b', { type: 'propose', term: 2, link: linkOf(other), entry: other, signature: signatureOf('b') })
      peer.on({ type: 'checked', from: 'b', link: linkOf(other), term: 2, entry: other, ok: true })
      assert.deepEqual([peer.find('sign').length, peer.find('check').length], [0, 0])
      assert.equal(peer.state.accepted?.link, link)
    }
  })

  it('takes no answer to a check of a term that is over', () => {
    const peer = new Peer({ term: 2 }).hears('b', { type: 'propose', term: 2, link, entry, signature: signatureOf('b') })
    peer.hears('c', { type: 'heartbeat', term: 3, commitIndex: 0 }).forget()
    peer.on({ type: 'checked', from: 'b', link, term: 2, entry, ok: true })
    assert.deepEqual([peer.effects, peer.state.accepted], [[], null])
  })

  const unfit = [
    { why: 'of an old term', term: 1, entry: entryAt(1, 'x') },
    { why: 'at an index that is not open', term: 2, entry: entryAt(3, 'x') },
    { why: 'on another head', term: 2, entry: entryAt(1, 'x', 'elsewhere') }
  ]
  for (const { why, term, entry: proposed } of unfit) {
    it(`neither checks nor signs a proposal ${why}`, () => {
      const peer = new Peer({ term: 2 }).hears('b', {
        type: 'propose',
        term,
        link: linkOf(proposed),
        entry: proposed,
        signature: signatureOf('b')
      })
      assert.deepEqual([peer.find('check').length, peer.find('sign').length], [0, 0])
    })
  }

  it('asks for what it misses when a proposal shows that it is behind', () => {
    const ahead = entryAt(4, 'x', 'head')
    const peer = new Peer({ term: 2 }).hears('b', {
      type: 'propose',
      term: 2,
      link: linkOf(ahead),
      entry: ahead,
      signature: signatureOf('b')
    })
    assert.deepEqual(peer.find('fetch'), [{ do: 'fetch', from: 'b', fromIndex: 1 }])
  })

  it('asks for what it misses whoever shows that it is further, however it does', () => {
    const position = { commitIndex: 3, acceptedTerm: 0 }
    const shows: Parameters<Peer['hears']>[1][] = [
      { type: 'heartbeat', term: 2, commitIndex: 3 },
      { type: 'pre-vote', term: 3, ...position },
      { type: 'vote', term: 3, ...position },
      { type: 'pre-vote-reply', term: 2, granted: false, commitIndex: 3 },
      { type: 'vote-reply', term: 2, granted: false, commitIndex: 3 }
    ]
    for (const message of shows)
      assert.deepEqual(
        new Peer({ term: 2 }).hears('b', message).find('fetch'),
        [{ do: 'fetch', from: 'b', fromIndex: 1 }],
        message.type
      )
    const leader = new Peer().elected().hears('b', { type: 'heartbeat-reply', term: 1, commitIndex: 3 })
    assert.equal(leader.find('fetch').length, 1)
  })

  it('does no more for a stranger’s, which may be a voter by entries that it misses', () => {
    const ahead = entryAt(4, 'x', 'head')
    const propose = { type: 'propose', term: 99, link: linkOf(ahead), entry: ahead, signature: signatureOf('x') } as const
    const peer = new Peer({ term: 2 }).hears('x', propose)
    assert.deepEqual(peer.effects, [{ do: 'fetch', from: 'x', fromIndex: 1 }])
    assert.deepEqual([peer.state.term, peer.state.aggregator], [2, null])
  })

  it('commits with the signatures of a majority, in the order of their names, and says so after it is stored (Raft §5.3)', () => {
    const peer = new Peer().elected().proposes('x')
    assert.deepEqual(
      peer.sent('propose').map(({ to }) => to),
      ['b', 'c', 'd', 'e']
    )
    peer.forget().accepts('d', entry)
    assert.equal(peer.state.commitIndex, 0)
    peer.accepts('d', entry).accepts('z', entry)
    assert.equal(peer.state.commitIndex, 0, 'once a voter, and voters only')
    peer.accepts('b', entry)
    assert.deepEqual([peer.state.commitIndex, peer.state.head, peer.state.accepted], [1, link, null])
    const [publish] = peer.find('publish')
    assert.deepEqual(
      publish?.certificate.signatures.map(({ voter }) => voter),
      ['a', 'b', 'd']
    )
    assert.deepEqual(
      [publish?.certificate.federation, publish?.certificate.index, publish?.certificate.term, publish?.certificate.entry],
      [federation, 1, 1, link]
    )
    assert.deepEqual(peer.done(), ['commit', 'persist', 'publish'])
  })

  it('counts no signature for another entry, index or term', () => {
    const peer = new Peer().elected().proposes('x')
    for (const from of ['b', 'c', 'd', 'e'])
      peer.accepts(from, entryAt(1, 'y')).accepts(from, entryAt(2, 'x')).accepts(from, entry, 0)
    assert.equal(peer.state.commitIndex, 0)
  })

  it('proposes nothing while an entry is open, nor as a follower', () => {
    const leader = new Peer().elected().proposes('x').forget().proposes('y')
    assert.deepEqual([leader.effects, leader.state.accepted?.link], [[], link])
    const follower = new Peer().proposes('x')
    assert.deepEqual([follower.effects, follower.state.accepted], [[], null])
  })

  it('proposes again what may be certified already, and nothing else, under its own term (Paxos)', () => {
    const peer = new Peer({ term: 4, accepted: { index: 1, term: 3, link, entry } }).timer('election')
    for (const from of ['b', 'c']) peer.hears(from, { type: 'pre-vote-reply', term: 4, granted: true, commitIndex: 0 })
    for (const from of ['b', 'c']) peer.hears(from, { type: 'vote-reply', term: 5, granted: true, commitIndex: 0 })
    assert.deepEqual(
      peer.sent('propose').map(({ message }) => [message.term, message.link]),
      Array(4).fill([5, link])
    )
    peer.proposes('y')
    assert.equal(peer.state.accepted?.link, link)
    peer.accepts('b', entry).accepts('c', entry)
    assert.deepEqual([peer.state.commitIndex, peer.find('publish')[0]?.certificate.term], [1, 5])
  })

  it('signs an entry that it accepted in an earlier term again without a second check', () => {
    const peer = new Peer({ term: 4, accepted: { index: 1, term: 3, link, entry } })
    peer.hears('b', { type: 'propose', term: 4, link, entry, signature: signatureOf('b') })
    assert.deepEqual([peer.find('check').length, peer.find('sign').map(({ term }) => term)], [0, [4]])
  })

  it('keeps the entry that it accepted, whatever is proposed by its link', () => {
    const peer = new Peer({ term: 2 }).on({ type: 'checked', from: 'b', link, term: 2, entry, ok: true }).forget()
    peer.hears('c', { type: 'propose', term: 3, link, entry: entryAt(1, 'another'), signature: signatureOf('c') })
    assert.deepEqual(
      [peer.find('sign')[0]?.link, peer.find('persist').at(-1)?.accepted],
      [link, { index: 1, term: 3, link, entry }]
    )
  })

  it('says an open entry again with each heartbeat to who has not signed it, for messages get lost', () => {
    const peer = new Peer().elected().proposes('x').accepts('b', entry).forget().timer('heartbeat')
    assert.deepEqual(
      peer.sent('propose').map(({ to }) => to),
      ['c', 'd', 'e']
    )
  })

  it('takes a certificate from wherever it comes, in order of index, once', () => {
    const second = entryAt(2, 'y', link)
    const peer = new Peer({ self: 'e' }).certified(second)
    assert.equal(peer.state.commitIndex, 0)
    peer.certified(entry).certified(second).certified(entry)
    assert.deepEqual([peer.state.commitIndex, peer.find('commit').length], [2, 2])
    assert.throws(() => new Peer().certified(entryAt(1, 'x', 'elsewhere')), /I1/)
  })

  it('drops an acceptance at an index that is certified by now when it starts again', () => {
    const accepted = { index: 1, term: 3, link, entry }
    assert.equal(new Peer({ term: 3, commitIndex: 1, head: link, accepted }).state.accepted, null)
    assert.equal(new Peer({ term: 3, accepted }).state.accepted?.link, link)
  })
})

describe('consensus: voters', () => {
  it('take office with the entry that names them, not before', () => {
    const peer = new Peer({ voters: ['a', 'b', 'c'] }).elected().proposes('m', ['a', 'b', 'c', 'd'])
    const entry = entryAt(1, 'm')
    peer.accepts('d', entry)
    assert.equal(peer.state.commitIndex, 0, 'd is not a voter of this index')
    peer.accepts('b', entry)
    assert.deepEqual([peer.state.commitIndex, peer.state.voters], [1, ['a', 'b', 'c', 'd']])
    peer.proposes('n').accepts('b', entryAt(2, 'n'))
    assert.equal(peer.state.commitIndex, 1, 'three of four are a majority now')
    peer.accepts('d', entryAt(2, 'n'))
    assert.equal(peer.state.commitIndex, 2)
  })

  it('a leader that is voted out hands over (Raft §6)', () => {
    const peer = new Peer({ voters: ['a', 'b', 'c'] }).elected()
    peer.hears('b', { type: 'heartbeat-reply', term: 1, commitIndex: 0 }).proposes('m', ['b', 'c']).forget()
    peer.accepts('b', entryAt(1, 'm'))
    assert.equal(peer.state.role, 'follower')
    assert.deepEqual(
      peer.sent('timeout-now').map(({ to }) => to),
      ['b']
    )
    assert.equal(peer.find('publish').length, 1, 'the certificate is told all the same')
  })

  it('is handed to whoever has signed, though no heartbeat of its was answered yet', () => {
    const peer = new Peer().elected().proposes('m').accepts('c', entryAt(1, 'm')).forget()
    assert.deepEqual(
      peer
        .on({ type: 'hand-over' })
        .sent('timeout-now')
        .map(({ to }) => to),
      ['c']
    )
  })

  it('who becomes a voter begins to wait for its aggregator; who ceases to be one stops', () => {
    const joining = new Peer({ self: 'd', voters: ['a', 'b', 'c'] }).certified(
      entryAt(1, 'm', federation, ['a', 'b', 'c', 'd'])
    )
    assert.equal(joining.find('start-timer').length, 1)
    const leaving = new Peer({ self: 'c', voters: ['a', 'b', 'c'] }).certified(entryAt(1, 'm', federation, ['a', 'b']))
    assert.deepEqual(
      leaving.find('stop-timer').map(({ name }) => name),
      ['election']
    )
  })
})
