/**
 * Consensus, held to what it says of itself and to the papers: "Raft" is Ongaro and Ousterhout 2014, "dissertation" Ongaro 2014.
 * Departures are named: one open entry, index before term, certificates.
 */
import assert from 'node:assert/strict'
import { isUpToDate } from '../../src/federation/consensus-state.ts'
import { entryAt, linkOf, Peer, signatureOf } from './consensus-bench.ts'

const position = (commitIndex: number, acceptedTerm = 0) => ({ commitIndex, acceptedTerm })

describe('consensus: terms and votes', () => {
  const votes: { why: string; ours: [number, number]; theirs: [number, number]; votedFor: string | null; granted: boolean }[] =
    [
      { why: 'same log, free vote', ours: [3, 7], theirs: [3, 7], votedFor: null, granted: true },
      { why: 'the vote is already the candidate’s', ours: [3, 7], theirs: [3, 7], votedFor: 'b', granted: true },
      { why: 'the vote is another’s', ours: [3, 7], theirs: [3, 9], votedFor: 'c', granted: false },
      { why: 'its acceptance is of a later term', ours: [3, 7], theirs: [3, 8], votedFor: null, granted: true },
      { why: 'our acceptance is of a later term', ours: [3, 7], theirs: [3, 6], votedFor: null, granted: false },
      { why: 'it has accepted nothing, we have', ours: [3, 7], theirs: [3, 0], votedFor: null, granted: false },
      {
        why: 'its index is higher: what is below is certified, whatever our term',
        ours: [3, 7],
        theirs: [4, 0],
        votedFor: null,
        granted: true
      },
      { why: 'its index is lower, whatever its term', ours: [3, 0], theirs: [2, 9], votedFor: null, granted: false }
    ]
  for (const { why, ours, theirs, votedFor, granted } of votes) {
    it(`${granted ? 'grants' : 'refuses'} a vote: ${why} (Raft §5.2, §5.4.1)`, () => {
      const [commitIndex, acceptedTerm] = ours
      const entry = entryAt(commitIndex + 1, 'x', 'head')
      const accepted = acceptedTerm === 0 ? null : { index: commitIndex + 1, term: acceptedTerm, link: linkOf(entry), entry }
      const peer = new Peer({ term: 10, votedFor, commitIndex, head: 'head', accepted })
      peer.hears('b', { type: 'vote', term: 10, ...position(...theirs) })
      assert.deepEqual(
        peer.sent('vote-reply').map(({ to, message }) => [to, message.granted, message.term]),
        [['b', granted, 10]]
      )
      assert.equal(peer.state.votedFor, granted ? 'b' : votedFor)
    })
  }

  it('"at least as good" is total: of two positions one is, or both', () => {
    const all = [0, 1, 2].flatMap(index => [0, 1, 2].map(term => position(index, term)))
    for (const left of all)
      for (const right of all) {
        const [there, back] = [isUpToDate(left, right), isUpToDate(right, left)]
        assert.ok(there || back)
        assert.equal(there && back, left.commitIndex === right.commitIndex && left.acceptedTerm === right.acceptedTerm)
      }
  })

  it('gives one vote a term, first come, first served (Raft §5.2), and stores it before it says so (I2)', () => {
    const peer = new Peer({ term: 1 })
    peer
      .hears('b', { type: 'vote', term: 2, ...position(0) })
      .forget()
      .hears('c', { type: 'vote', term: 2, ...position(0) })
    assert.equal(peer.sent('vote-reply')[0]?.message.granted, false)
    const first = new Peer({ term: 2 }).hears('b', { type: 'vote', term: 2, ...position(0) })
    assert.deepEqual(first.done(), ['persist', 'start-timer', 'send vote-reply'])
    assert.equal(first.find('persist')[0]?.votedFor, 'b')
  })

  it('remembers its vote over a restart, and votes anew in a new term (I2)', () => {
    const restarted = new Peer({ term: 2, votedFor: 'b' })
    restarted.hears('c', { type: 'vote', term: 2, ...position(0) })
    assert.equal(restarted.sent('vote-reply')[0]?.message.granted, false)
    restarted.forget().hears('c', { type: 'vote', term: 3, ...position(0) })
    assert.equal(restarted.sent('vote-reply')[0]?.message.granted, true)
  })

  for (const role of ['follower', 'candidate', 'leader'] as const) {
    it(`a ${role} takes over a higher term and follows (Raft §5.1)`, () => {
      const peer = new Peer({ term: 4 })
      if (role === 'leader') peer.elected()
      if (role === 'candidate')
        peer.timer('election').hears('b', { type: 'pre-vote-reply', term: 4, granted: true, commitIndex: 0 })
      if (role === 'candidate') peer.hears('c', { type: 'pre-vote-reply', term: 4, granted: true, commitIndex: 0 })
      assert.equal(peer.state.role, role)
      peer.forget().hears('b', { type: 'heartbeat', term: 9, commitIndex: 0 })
      assert.deepEqual([peer.state.role, peer.state.term, peer.state.aggregator], ['follower', 9, 'b'])
      assert.deepEqual(
        peer.find('persist').map(({ term, votedFor }) => [term, votedFor]),
        [[9, null]]
      )
      assert.equal(peer.find('stepped-down').length, role === 'leader' ? 1 : 0)
    })
  }

  it('answers messages of an old term with its own, so that their sender learns it (Raft §5.1)', () => {
    const peer = new Peer({ term: 5 })
    peer.hears('b', { type: 'heartbeat', term: 3, commitIndex: 0 }).hears('b', { type: 'vote', term: 3, ...position(9) })
    assert.deepEqual(
      [peer.sent('heartbeat-reply')[0]?.message.term, peer.sent('vote-reply')[0]?.message],
      [5, { type: 'vote-reply', term: 5, granted: false, commitIndex: 0 }]
    )
    assert.equal(peer.state.aggregator, null)
  })

  it('takes no term from a stranger that asks for votes', () => {
    const peer = new Peer({ term: 5 }).hears('z', { type: 'vote', term: 99, ...position(99) })
    assert.equal(peer.state.term, 5)
    assert.equal(peer.sent('vote-reply').length, 0)
  })
})

describe('consensus: election', () => {
  it('asks before it stands: a pre-vote raises no term and stores nothing (dissertation §9.6)', () => {
    const peer = new Peer({ term: 3 }).timer('election')
    assert.deepEqual([peer.state.role, peer.state.term, peer.find('persist').length], ['pre-candidate', 3, 0])
    assert.deepEqual(
      peer.sent('pre-vote').map(({ to, message }) => [to, message.term]),
      ['b', 'c', 'd', 'e'].map(to => [to, 4])
    )
    assert.ok(peer.find('start-timer')[0]!.ms < 1000, 'soon again: who refuses may find the aggregator silent a moment later')
  })

  const preVotes = [
    { why: 'its aggregator is silent', aggregator: false, term: 4, theirs: position(0), granted: true },
    { why: 'it still hears its aggregator', aggregator: true, term: 4, theirs: position(0), granted: false },
    { why: 'the term has begun already', aggregator: false, term: 3, theirs: position(0), granted: false },
    { why: 'the other log is shorter', aggregator: false, term: 4, theirs: position(-1), granted: false }
  ]
  for (const { why, aggregator, term, theirs, granted } of preVotes) {
    it(`${granted ? 'grants' : 'refuses'} a pre-vote: ${why}, and moves nothing`, () => {
      const peer = new Peer({ term: 3 })
      if (aggregator) peer.hears('c', { type: 'heartbeat', term: 3, commitIndex: 0 })
      const before = peer.forget().state
      peer.hears('b', { type: 'pre-vote', term, ...theirs })
      assert.deepEqual(peer.done(), ['send pre-vote-reply'])
      assert.equal(peer.sent('pre-vote-reply')[0]?.message.granted, granted)
      assert.deepEqual(peer.state, before)
    })
  }

  const counts = [
    { grants: ['b'], leads: false, why: 'two of five' },
    { grants: ['b', 'c'], leads: true, why: 'three of five' },
    { grants: ['b', 'b', 'b'], leads: false, why: 'one voter counts once' },
    { grants: ['x', 'y', 'z'], leads: false, why: 'strangers do not count' }
  ]
  for (const { grants, leads, why } of counts) {
    it(`${leads ? 'leads' : 'does not lead'} with ${why} (Raft §5.2)`, () => {
      const peer = new Peer({ term: 3 }).timer('election')
      for (const from of ['b', 'c']) peer.hears(from, { type: 'pre-vote-reply', term: 3, granted: true, commitIndex: 0 })
      assert.deepEqual([peer.state.role, peer.state.term, peer.state.votedFor], ['candidate', 4, 'a'])
      assert.equal(peer.find('start-timer').at(-1)?.ms, 1000, 'its votes have an election timeout to come')
      for (const from of grants) peer.hears(from, { type: 'vote-reply', term: 4, granted: true, commitIndex: 0 })
      assert.equal(peer.state.role === 'leader', leads)
      // A new leader says so at once, to keep others from standing (Raft §5.2).
      assert.equal(peer.sent('heartbeat').length, leads ? 4 : 0)
    })
  }

  it('counts neither refusals nor answers of another term', () => {
    const peer = new Peer({ term: 3 }).timer('election')
    for (const from of ['b', 'c']) peer.hears(from, { type: 'pre-vote-reply', term: 3, granted: true, commitIndex: 0 })
    for (const from of ['b', 'c', 'd', 'e']) {
      peer.hears(from, { type: 'vote-reply', term: 4, granted: false, commitIndex: 0 })
      peer.hears(from, { type: 'vote-reply', term: 3, granted: true, commitIndex: 0 })
    }
    assert.equal(peer.state.role, 'candidate')
  })

  it('a candidate that hears the aggregator of its term follows it (Raft §5.2)', () => {
    const peer = new Peer({ term: 3 }).timer('election')
    for (const from of ['b', 'c']) peer.hears(from, { type: 'pre-vote-reply', term: 3, granted: true, commitIndex: 0 })
    peer.hears('d', { type: 'heartbeat', term: 4, commitIndex: 0 })
    assert.deepEqual([peer.state.role, peer.state.aggregator], ['follower', 'd'])
  })

  it('a split vote ends by standing again in a new term (Raft §5.2)', () => {
    const peer = new Peer({ term: 3 }).timer('election')
    for (const from of ['b', 'c']) peer.hears(from, { type: 'pre-vote-reply', term: 3, granted: true, commitIndex: 0 })
    peer.timer('election')
    assert.equal(peer.state.role, 'pre-candidate')
    for (const from of ['d', 'e']) peer.hears(from, { type: 'pre-vote-reply', term: 4, granted: true, commitIndex: 0 })
    assert.deepEqual([peer.state.role, peer.state.term], ['candidate', 5])
  })

  it('finds its aggregator silent after an election timeout and a quarter, then stands in its turn: the stronger the sooner', () => {
    for (const rank of [0, 0.5, 1]) {
      const peer = new Peer({ rank: 0.25, term: 1 }).on({ type: 'ranked', rank }).on({ type: 'start' })
      peer.hears('b', { type: 'heartbeat', term: 1, commitIndex: 0 })
      const timer = () => peer.find('start-timer').map(({ ms, jitterMs }) => [ms, jitterMs])
      assert.deepEqual(timer(), [
        [1000 * (1 + rank / 2), 125],
        [1250, 0]
      ])
      peer.forget().timer('election')
      assert.deepEqual([peer.state.role, peer.state.aggregator], ['follower', null])
      assert.deepEqual(timer(), [[500 * rank, 125]])
      assert.equal(peer.timer('election').state.role, 'pre-candidate')
    }
  })

  it('grants a pre-vote from the moment on in which it finds its aggregator silent, before its own turn', () => {
    const peer = new Peer({ rank: 1, term: 1 }).hears('b', { type: 'heartbeat', term: 1, commitIndex: 0 })
    const asks = () =>
      peer
        .forget()
        .hears('c', { type: 'pre-vote', term: 2, ...position(0) })
        .sent('pre-vote-reply')[0]!.message
    assert.equal(asks().granted, false)
    peer.timer('election')
    assert.equal(asks().granted, true)
  })

  it('does not wait for the silence of an aggregator whose connection broke, unless it is heard again', () => {
    const peer = new Peer({ rank: 0.5, term: 1 }).hears('b', { type: 'heartbeat', term: 1, commitIndex: 0 }).forget()
    peer.on({ type: 'lost', peer: 'c' })
    assert.equal(peer.effects.length, 0, 'another’s loss is nothing to it')
    peer.on({ type: 'lost', peer: 'b' })
    assert.deepEqual([peer.state.aggregator, peer.find('start-timer')[0]?.ms], [null, 250])
    peer.forget().hears('b', { type: 'heartbeat', term: 1, commitIndex: 0 })
    assert.deepEqual([peer.state.aggregator, peer.find('start-timer')[0]?.ms], ['b', 1250])
  })

  it('hears nothing that a peer says of which it is proven that it lied, and leaves it as an aggregator', () => {
    const peer = new Peer({ term: 1 }).hears('b', { type: 'heartbeat', term: 1, commitIndex: 0 })
    peer.on({ type: 'distrust', peer: 'b' })
    assert.equal(peer.state.aggregator, null)
    peer.forget().hears('b', { type: 'heartbeat', term: 7, commitIndex: 0 })
    assert.deepEqual([peer.state.term, peer.state.aggregator, peer.effects.length], [1, null, 0])
  })

  it('believes no term of a stranger, and fetches what it has', () => {
    const peer = new Peer({ term: 1 }).hears('x', { type: 'heartbeat', term: 99, commitIndex: 4 })
    assert.deepEqual([peer.state.term, peer.state.aggregator, peer.find('fetch').length], [1, null, 1])
  })

  it('without memory of its votes neither votes, nor stands, nor accepts, until an entry enrolls it by its number', () => {
    const peer = new Peer({ nonce: 7, term: 1 }).on({ type: 'start' }).timer('election')
    assert.equal(peer.state.role, 'follower')
    peer.hears('b', { type: 'pre-vote', term: 2, ...position(0) }).hears('b', { type: 'vote', term: 2, ...position(0) })
    const first = entryAt(1, 'x')
    peer.hears('b', { type: 'propose', term: 2, link: linkOf(first), entry: first, signature: signatureOf('b') })
    assert.deepEqual(
      [peer.sent('pre-vote-reply'), peer.sent('vote-reply'), peer.find('check')].map(list => list.length),
      [0, 0, 0]
    )
    peer.certified({ ...first, enrolled: [{ peer: 'a', nonce: 3 }] }, 2)
    assert.equal(peer.state.nonce, 7, 'an entry of its life before')
    const second = entryAt(2, 'y', linkOf(first))
    peer.certified({ ...second, enrolled: [{ peer: 'a', nonce: 7 }] }, 2).forget()
    assert.equal(peer.state.nonce, null)
    peer.hears('b', { type: 'vote', term: 3, ...position(2) })
    assert.deepEqual([peer.sent('vote-reply')[0]?.message.granted, peer.find('persist')[0]?.nonce], [true, null])
  })

  it('a certificate raises the term, and ends a candidacy: its votes were for another index', () => {
    const peer = new Peer({ term: 3 }).timer('election')
    for (const from of ['b', 'c']) peer.hears(from, { type: 'pre-vote-reply', term: 3, granted: true, commitIndex: 0 })
    peer.hears('b', { type: 'vote-reply', term: 4, granted: true, commitIndex: 0 })
    peer.certified(entryAt(1, 'x'), 3)
    assert.deepEqual([peer.state.role, peer.state.term], ['follower', 4])
    peer.hears('c', { type: 'vote-reply', term: 4, granted: true, commitIndex: 0 })
    assert.equal(peer.state.role, 'follower', 'two votes at index 1 and one before it are no majority')
    peer.certified(entryAt(2, 'y', '1x'), 9)
    assert.deepEqual([peer.state.term, peer.state.votedFor], [9, null])
  })

  it('hands what is refused over to whoever can win: of a majority that refused it one, else one that holds it', () => {
    const heir = (voters: string[], refusing: string[]) => {
      const peer = new Peer({ voters }).elected()
      const entry = entryAt(1, 'x')
      peer.on({ type: 'propose', link: linkOf(entry), entry })
      for (const voter of voters.slice(1)) peer.hears(voter, { type: 'heartbeat-reply', term: 1, commitIndex: 0 })
      for (const voter of refusing) peer.hears(voter, { type: 'refuse', term: 1, index: 1, link: linkOf(entry) })
      return peer.forget().on({ type: 'hand-over' }).sent('timeout-now')[0]!.to
    }
    assert.equal(heir(['a', 'b', 'c', 'd'], ['b', 'c']), 'd')
    assert.equal(heir(['a', 'b', 'c', 'd', 'e'], ['c', 'd', 'e']), 'c')
  })

  it('hands over in a circle, so that the office cannot go to and fro between two that get nothing certified', () => {
    const next = (self: string) => {
      const leader = new Peer({ self }).elected()
      for (const voter of leader.state.voters.filter(one => one !== self))
        leader.hears(voter, { type: 'heartbeat-reply', term: leader.state.term, commitIndex: 0 })
      return leader.forget().on({ type: 'hand-over' }).sent('timeout-now')[0]!.to
    }
    assert.deepEqual(['a', 'd', 'e'].map(next), ['b', 'e', 'a'])
  })

  it('the only voter leads at once; who is no voter never stands', () => {
    assert.equal(new Peer({ voters: ['a'] }).on({ type: 'start' }).state.role, 'leader')
    const outsider = new Peer({ voters: ['b', 'c', 'd'] }).on({ type: 'start' }).timer('election')
    assert.deepEqual([outsider.state.role, outsider.find('start-timer').length], ['follower', 0])
    outsider.hears('b', { type: 'vote', term: 3, ...position(0) })
    assert.equal(outsider.sent('vote-reply').length, 0)
  })

  it('a leader that a majority has left steps down within an election timeout (dissertation §6.2)', () => {
    const alone = new Peer().elected()
    for (let beat = 0; beat < 6; beat++)
      alone.hears('b', { type: 'heartbeat-reply', term: 1, commitIndex: 0 }).timer('heartbeat')
    assert.equal(alone.state.role, 'follower')
    assert.equal(alone.find('stepped-down').length, 1)
    const followed = new Peer().elected()
    for (let beat = 0; beat < 30; beat++) {
      for (const from of ['b', 'c']) followed.hears(from, { type: 'heartbeat-reply', term: 1, commitIndex: 0 })
      followed.timer('heartbeat')
    }
    assert.equal(followed.state.role, 'leader')
  })

  it('a leader waits for a voter that is new as long as for any, whenever it was added', () => {
    for (let beats = 0; beats < 8; beats++) {
      const leader = new Peer({ voters: ['a'] }).on({ type: 'start' })
      for (let beat = 0; beat < beats; beat++) leader.timer('heartbeat')
      leader.proposes('m', ['a', 'b']).timer('heartbeat').timer('heartbeat')
      assert.equal(leader.state.role, 'leader', `added after ${beats} beats`)
      for (let beat = 0; beat < 6; beat++) leader.timer('heartbeat')
      assert.equal(leader.state.role, 'follower')
    }
  })

  it('hands over to the voter that is furthest, which then stands without a pre-vote (dissertation §3.10)', () => {
    const leader = new Peer().elected()
    leader.hears('b', { type: 'heartbeat-reply', term: 1, commitIndex: 0 })
    leader.certified(entryAt(1, 'x')).hears('d', { type: 'heartbeat-reply', term: 1, commitIndex: 1 })
    leader.forget().on({ type: 'hand-over' })
    assert.deepEqual(leader.sent('timeout-now'), [{ to: 'd', message: { type: 'timeout-now', term: 1 } }])
    assert.equal(leader.state.role, 'follower')
    const heir = new Peer({ self: 'd', term: 1 }).hears('a', { type: 'heartbeat', term: 1, commitIndex: 0 }).forget()
    heir.hears('b', { type: 'timeout-now', term: 1 })
    assert.equal(heir.state.role, 'follower', 'only its aggregator may ask for it')
    heir.hears('a', { type: 'timeout-now', term: 1 })
    assert.deepEqual([heir.state.role, heir.state.term, heir.done()[0]], ['candidate', 2, 'persist'])
  })
})
