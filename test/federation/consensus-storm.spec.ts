/** I1, I2 and progress over random weather (consensus-cluster.ts). More seeds: test/slow/consensus.slow.ts. */
import assert from 'node:assert/strict'
import { calm } from './cluster-parts.ts'
import { Cluster } from './consensus-cluster.ts'
import { storm } from './storm.ts'

describe('consensus of many peers, by seed', () => {
  it('certifies one entry after the other in calm weather', () => {
    const cluster = new Cluster(1, calm, 5, 5)
    cluster.run(10_000)
    assert.ok(cluster.height > 50, `index ${cluster.height}`)
    assert.ok(
      cluster.counts.elections < 10,
      `${cluster.counts.elections} elections: it is handed over now and then, and lost never`
    )
  })

  it('never certifies two entries for an index (I1), never signs two in a term (I2), and goes on when the storm is over', () => {
    const seen = { height: 0, elections: 0, crashes: 0, partitions: 0 }
    for (let seed = 0; seed < 300; seed++) {
      const { height, counts } = storm(seed, 30_000)
      seen.height += height
      for (const name of ['elections', 'crashes', 'partitions'] as const) seen[name] += counts[name]
    }
    // The weather was rough, and the log grew all the same: a storm that nobody notices shows nothing.
    for (const [name, count] of Object.entries(seen)) assert.ok(count > 600, `${name}: ${count}`)
  })

  it('goes on where a peer that came back is made a voter when all others have told it what it may have forgotten', () => {
    // It held back its refusal of an entry for good, and was one of too many that did not sign it.
    storm(1655, 60_000)
  })
})
