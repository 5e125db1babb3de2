/** Twenty thousand storms over consensus (test/federation/consensus-cluster.ts), other seeds than the quick ones. */
import { storm } from '../federation/storm.ts'

describe('consensus of many peers, at length', () => {
  it('holds I1 and I2 in 20,000 storms of a minute', () => {
    for (let seed = 1_000; seed < 21_000; seed++) storm(seed, 60_000)
  })

  it('holds them where voters refuse for good and lose their disks, in 10,000 storms', () => {
    for (let seed = 1_000; seed < 11_000; seed++) storm(seed, 20_000, { lost: 0.5, refusalForGood: 0.3 })
  })
})
