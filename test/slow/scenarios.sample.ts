/** A sample of scenarios.slow.ts: `lost-member`, or one that is drawn by WORLDLM_SEED. */
import { Random } from '../../src/math/random.ts'
import { stories } from '../../testnet/scenarios/stories.ts'
import { play } from '../testnet/play.ts'

const { WORLDLM_SEED } = process.env
const seed = Number(WORLDLM_SEED ?? 0)
const names = Object.keys(stories)
// Where rounds take milliseconds, as with the tests' model, a story may kill one aggregator of a federation before the vote of the last
// was given to another: what is run each time is a story that leaves every federation its majority.
const name = WORLDLM_SEED === undefined ? 'lost-member' : names[new Random(`scenario/${seed}`).below(names.length)]!

describe('a sample: scenarios on real processes', () => {
  it(`${name}, drawn by seed ${seed}`, async function () {
    this.timeout(300_000)
    await play(name, seed)
  })
})
