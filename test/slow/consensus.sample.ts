/** A sample of consensus.slow.ts: one seed in twenty. */
import { storm } from '../federation/storm.ts'

describe('a sample: consensus of many peers', () => {
  it('holds I1 and I2 in 1,000 storms of a minute', () => {
    for (let seed = 1_000; seed < 21_000; seed += 20) storm(seed, 60_000)
  })

  it('holds them where voters refuse for good and lose their disks, in 500 storms', () => {
    for (let seed = 1_000; seed < 11_000; seed += 20) storm(seed, 20_000, { lost: 0.5, refusalForGood: 0.3 })
  })
})
