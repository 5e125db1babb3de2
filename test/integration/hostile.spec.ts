/** A voter that speaks with its own key, and says what no honest node does: the others go on without it. */
import assert from 'node:assert/strict'
import * as dagCbor from '@ipld/dag-cbor'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'
import { readConsensus } from '../../src/node/store.ts'
import { acceptBytes } from '../../src/wire/signature.ts'
import { Cluster, withCluster } from './cluster.ts'
import { Impostor } from './impostor.ts'

const last = Number.MAX_SAFE_INTEGER

describe('a voter that lies', function () {
  this.timeout(300_000)

  it('ends none of the others, by links that nobody makes, nor by terms and logs without end', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c'], { minMembers: 2 }), async cluster => {
      await cluster.startAll()
      await cluster.untilVoters(3, ['a', 'b', 'c'])
      await cluster.untilRound(1, ['a', 'b', 'c'])
      const liar = cluster.node('c')
      await cluster.kill('c')
      const impostor = await Impostor.start(liar.folder.identity(), cluster.living(), [cluster.id])
      try {
        for (const filling of [1, 2]) {
          const entry = CID.createV1(dagCbor.code, Digest.create(0, new Uint8Array(600).fill(filling)))
          const signature = impostor.host.sign(acceptBytes(cluster.id, 99, 9, entry.toString()))
          const accepts = { index: 99, term: 9, entry, signatures: [{ voter: liar.peer, signature }] }
          const message = { kind: 'accepts', accepts: { federation: CID.parse(cluster.id), ...accepts } }
          await impostor.sayBytes(cluster.id, dagCbor.encode(message))
        }
        for (const { peer } of cluster.living()) {
          const vote = { type: 'vote', term: last, commitIndex: last, acceptedTerm: last } as const
          impostor.send(peer, { federation: cluster.id, message: vote })
          impostor.send(peer, { federation: cluster.id, message: { type: 'heartbeat', term: last, commitIndex: last } })
        }
        await impostor.say(cluster.id, {
          kind: 'presence',
          index: last,
          term: last,
          aggregator: liar.peer,
          addresses: [],
          phase: 'idle',
          starting: false,
          strength: 1e18
        })
        const reached = await cluster.round('a')
        await cluster.untilRound(reached + 2, ['a', 'b'])
      } finally {
        await impostor.stop()
      }
      for (const name of ['a', 'b']) {
        assert.equal(cluster.node(name).ended, null, name)
        const { term } = readConsensus(cluster.node(name).folder.consensus(cluster.id), () => 0)
        assert.ok(term > 1 && term < 1e6, `${name} is in term ${term}`)
      }
    })
  })
})
