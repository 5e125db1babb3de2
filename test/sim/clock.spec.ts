/** The simulator's clock against a list that is sorted anew each time. */
import assert from 'node:assert/strict'
import { Random } from '../../src/math/random.ts'
import { Clock } from '../../src/sim/clock.ts'

describe('virtual time', () => {
  it('fires in order of time and tie, whatever is scheduled meanwhile, 40 seeds', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = new Random(`clock/${seed}`)
      const clock = new Clock(random.fork('ties'))
      const waiting: { atMs: number; tie: number; name: number }[] = []
      let name = 0
      /** Mostly soon, at times in the same moment, at times in hours. */
      const schedule = () => {
        const reach = [0, 1, 40, 5_000, 1e7][random.below(5)]!
        const one = { atMs: clock.nowMs + Math.floor(random.float() * reach), tie: random.below(1_000), name: name++ }
        waiting.push(one)
        clock.at(one.atMs, { fire: () => fired(one) }, one.tie)
      }
      const fired = (one: (typeof waiting)[number]) => {
        waiting.sort((left, right) => left.atMs - right.atMs || left.tie - right.tie)
        assert.deepEqual([one.atMs, one.tie], [waiting[0]!.atMs, waiting[0]!.tie], `seed ${seed}`)
        assert.equal(clock.nowMs, one.atMs)
        waiting.splice(waiting.indexOf(one), 1)
        if (name < 600) for (let count = random.below(4); count > 0; count--) schedule()
      }
      for (let count = 0; count < 50; count++) schedule()
      while (clock.next());
      assert.deepEqual([waiting.length, clock.fired], [0, name], `seed ${seed}`)
    }
  })

  it('fires those without a tie in the order in which they were scheduled, whatever else waits', () => {
    for (let others = 0; others < 30; others++) {
      const clock = new Clock(new Random('order'))
      const seen: number[] = []
      for (let count = 0; count < others; count++) clock.call((count * 7) % 13, () => undefined)
      clock.at(10, { fire: () => seen.push(-1) })
      for (let name = 0; name < 20; name++) clock.at(10, { fire: () => seen.push(name) }, 0)
      while (clock.next());
      assert.deepEqual(seen, [...Array(20).keys(), -1], `${others} others`)
    }
  })

  it('does not go back: what is scheduled for the past comes now', () => {
    const clock = new Clock(new Random('past'))
    const seen: number[] = []
    clock.call(100, () => {
      clock.asOf(40, () => clock.call(10, () => seen.push(clock.nowMs)))
      clock.at(100, { fire: () => seen.push(clock.nowMs) })
    })
    while (clock.next());
    assert.deepEqual(seen, [100, 100])
  })
})
