import assert from 'node:assert/strict'
import fc from 'fast-check'
import { BlobOffers } from '../../src/net/blob-offers.ts'
import { type Ask, BlobScheduler } from '../../src/net/blob-scheduler.ts'
import { bitmapOf, fullBitmap, hasBit } from '../../src/wire/bitmap.ts'
import { limits } from '../../src/wire/limits.ts'

const everyChunk = (count: number): number[] => Array.from({ length: count }, (_, chunk) => chunk)

/** Answers all asks at once until nothing more is asked. @returns in order. */
function play(scheduler: BlobScheduler, nowMs: number): Ask[] {
  const all: Ask[] = []
  for (let asks = scheduler.next(nowMs); asks.length > 0; asks = scheduler.next(nowMs)) {
    all.push(...asks)
    for (const { peer, chunk } of asks) scheduler.arrived(peer, chunk, nowMs)
  }
  return all
}

describe('blob scheduler', () => {
  it('asks for the rarest chunks first', () => {
    const scheduler = new BlobScheduler(6, everyChunk(6), 'seed', 0)
    scheduler.learn('a', bitmapOf([0, 1, 2, 3, 4, 5], 6), [], 0)
    scheduler.learn('b', bitmapOf([0, 1, 2, 3], 6), [], 0)
    scheduler.learn('c', bitmapOf([0, 1], 6), [], 0)
    scheduler.drop('a')
    scheduler.learn('d', bitmapOf([0, 1, 2, 3, 4], 6), [], 0)
    const ofD = scheduler.next(0).filter(({ peer }) => peer === 'd')
    assert.equal(ofD[0]!.chunk, 4, 'only d has it')
    assert.ok(!ofD.some(({ chunk }) => chunk === 5), 'nobody has it')
  })

  it('begins elsewhere than another receiver does', () => {
    const first = (seed: string) => {
      const scheduler = new BlobScheduler(1000, everyChunk(1000), seed, 0)
      scheduler.learn('a', fullBitmap(1000), [], 0)
      return scheduler.next(0)[0]!.chunk
    }
    assert.notEqual(first('one'), first('other'))
    assert.equal(first('one'), first('one'))
  })

  it('takes from a whole holder what it offers, and leaves it alone while companions get on', () => {
    const scheduler = new BlobScheduler(20, everyChunk(20), 'seed', 0)
    scheduler.learn('whole', fullBitmap(20), [7, 3], 0)
    scheduler.learn('companion', bitmapOf([0], 20), [], 0)
    assert.deepEqual(
      scheduler
        .next(0)
        .filter(({ peer }) => peer === 'whole')
        .map(({ chunk }) => chunk),
      [7, 3]
    )
    assert.deepEqual(scheduler.next(1_000), [])
    // Nothing has come for longer than companions are trusted.
    assert.ok(scheduler.next(2_500).some(({ peer }) => peer === 'whole'))
  })

  it('leaves a whole holder alone for companions that get on, no longer: not for ones that stand still, nor that bring nothing', () => {
    const isAsked = (scheduler: BlobScheduler, nowMs: number) => scheduler.next(nowMs).some(({ peer }) => peer === 'whole')
    const still = new BlobScheduler(40, everyChunk(40), 'seed', 0)
    still.learn('whole', fullBitmap(40), [], 0)
    still.learn('still', bitmapOf([0, 1, 2, 3, 4, 5, 6], 40), [], 0)
    const brings = new BlobScheduler(40, everyChunk(40), 'seed', 0)
    brings.learn('whole', fullBitmap(40), [], 0)
    brings.learn('mute', bitmapOf([0], 40), [], 0)
    for (const nowMs of [0, 500, 1_000, 1_500]) {
      const asks = still.next(nowMs)
      assert.ok(asks.every(({ peer }) => peer === 'still'))
      for (const { peer, chunk } of asks.slice(0, 1)) still.arrived(peer, chunk, nowMs)
      still.learn('still', bitmapOf([0, 1, 2, 3, 4, 5, 6], 40), [], nowMs)
      assert.equal(isAsked(brings, nowMs), false)
      brings.learn('mute', bitmapOf(everyChunk(1 + nowMs / 500), 40), [], nowMs)
    }
    assert.equal(isAsked(still, 2_100), true, 'what arrives is all that they have')
    assert.equal(isAsked(brings, 2_100), true, 'nothing arrives')
  })

  it('waits for companions the longer the slower answers are, up to a bound', () => {
    const waitsAt = (latencyMs: number, waitMs: number) => {
      const scheduler = new BlobScheduler(40, everyChunk(40), 'seed', 0)
      scheduler.learn('companion', bitmapOf([0], 40), [], 0)
      scheduler.next(0)
      scheduler.arrived('companion', 0, latencyMs)
      scheduler.learn('whole', fullBitmap(40), [], latencyMs)
      scheduler.learn('companion', bitmapOf([0, 1], 40), [], latencyMs)
      return !scheduler.next(latencyMs + waitMs).some(({ peer }) => peer === 'whole')
    }
    const bounds = [100, 1_000, 20_000].map(latencyMs =>
      [1_900, 2_900, 3_100, 14_900, 15_100].map(ms => waitsAt(latencyMs, ms))
    )
    assert.deepEqual(bounds, [
      [true, false, false, false, false],
      [true, true, false, false, false],
      [true, true, true, true, false]
    ])
  })

  it('shares what there is among holders that have the same', () => {
    const scheduler = new BlobScheduler(4, everyChunk(4), 'seed', 0)
    for (const peer of ['a', 'b']) scheduler.learn(peer, fullBitmap(4), [], 0)
    assert.deepEqual(
      scheduler
        .next(0)
        .map(({ peer }) => peer)
        .sort(),
      ['a', 'a', 'b', 'b']
    )
  })

  it('counts as rare what few have that are still there, and as held what nobody has refused', () => {
    const scheduler = new BlobScheduler(4, everyChunk(4), 'seed', 0)
    scheduler.learn('a', bitmapOf([0, 1], 4), [], 0)
    scheduler.learn('b', bitmapOf([2, 3], 4), [], 0)
    scheduler.drop('a')
    scheduler.learn('c', bitmapOf([1, 2], 4), [], 0)
    assert.equal(scheduler.next(0).find(({ peer }) => peer === 'c')?.chunk, 1)
    assert.equal(scheduler.heldCount('c'), 2)
    scheduler.refused('c', 1)
    assert.equal(scheduler.heldCount('c'), 1)
  })

  it('wants as many offers as last until the next answer, and counts none that another is asked for', () => {
    const scheduler = new BlobScheduler(20, everyChunk(20), 'seed', 0)
    assert.equal(scheduler.wanted('whole'), 4)
    scheduler.learn('whole', fullBitmap(20), [7, 3, 5], 0)
    assert.equal(scheduler.wanted('whole'), 3)
    const later = new BlobScheduler(20, everyChunk(20), 'seed', 0)
    later.learn('companion', bitmapOf([3, 5], 20), [], 0)
    later.next(0)
    later.learn('whole', fullBitmap(20), [7, 3, 5], 0)
    assert.equal(later.wanted('whole'), 5)
  })

  it('asks a second holder for what the first owes for long, and no third', () => {
    const scheduler = new BlobScheduler(1, [0], 'seed', 0)
    scheduler.learn('slow', fullBitmap(1), [], 0)
    assert.deepEqual(scheduler.next(0), [{ peer: 'slow', chunk: 0 }])
    scheduler.learn('quick', fullBitmap(1), [], 10)
    scheduler.learn('third', fullBitmap(1), [], 10)
    assert.deepEqual(scheduler.next(1_000), [])
    assert.equal(scheduler.next(2_100).length, 1)
    assert.deepEqual(scheduler.next(60_000), [])
    assert.equal(scheduler.arrived('quick', 0, 60_000), true)
    assert.equal(scheduler.arrived('slow', 0, 60_001), false, 'it came twice')
    assert.ok(scheduler.done)
    assert.equal(scheduler.outstanding, 0)
  })

  it('asks others for what a holder owes that is gone, or that refuses', () => {
    const scheduler = new BlobScheduler(2, [0, 1], 'seed', 0)
    scheduler.learn('a', fullBitmap(2), [], 0)
    assert.equal(scheduler.next(0).length, 2)
    scheduler.learn('b', fullBitmap(2), [], 0)
    scheduler.refused('a', 0)
    assert.deepEqual(scheduler.next(0), [{ peer: 'b', chunk: 0 }])
    scheduler.drop('a')
    assert.deepEqual(scheduler.next(0), [{ peer: 'b', chunk: 1 }])
  })

  it('asks a quick holder for more at once, a slow one for less', () => {
    const outstandingAfter = (latencyMs: number) => {
      const scheduler = new BlobScheduler(500, everyChunk(500), 'seed', 0)
      scheduler.learn('a', fullBitmap(500), [], 0)
      let owed = scheduler.next(0)
      for (let turn = 1; turn <= 20; turn++) {
        for (const { chunk } of owed) scheduler.arrived('a', chunk, turn * latencyMs)
        owed = scheduler.next(turn * latencyMs)
      }
      return owed.length
    }
    assert.equal(outstandingAfter(50), limits.blobChunksPerHolderMax)
    assert.equal(outstandingAfter(1_000), 4, 'neither')
    assert.equal(outstandingAfter(5_000), 1)
  })

  /** Random holders, partial ones that grow, deaths, refusals, and slow answers, from one seed. */
  it('asks for nothing twice but what is overdue, stays within its bounds, and ends when every chunk is held by someone', () => {
    const event = fc.oneof(
      { weight: 6, arbitrary: fc.record({ do: fc.constant('answer' as const), place: fc.nat(100) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('refuse' as const), place: fc.nat(100) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('grow' as const), place: fc.nat(100) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('drop' as const), place: fc.nat(100) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('wait' as const), place: fc.nat(4_000) }) }
    )
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 150 }),
        fc.integer({ min: 1, max: 6 }),
        fc.array(event, { maxLength: 120 }),
        fc.string(),
        (count, holders, events, seed) => {
          const scheduler = new BlobScheduler(count, everyChunk(count), seed, 0)
          const owed: (Ask & { ms: number })[] = []
          const here = new Set<number>()
          const held = new Map<string, Set<number>>()
          let now = 0
          const tell = (peer: string) => scheduler.learn(peer, bitmapOf(held.get(peer)!, count), [], now)
          for (let place = 0; place < holders; place++) {
            held.set(`h${place}`, new Set(everyChunk(count).filter(chunk => chunk % holders >= place)))
            tell(`h${place}`)
          }
          const ask = () => {
            for (const one of scheduler.next(now)) {
              const others = owed.filter(({ chunk }) => chunk === one.chunk)
              assert.ok(!here.has(one.chunk), `chunk ${one.chunk} is here`)
              assert.ok(held.get(one.peer)?.has(one.chunk), `${one.peer} does not hold chunk ${one.chunk}`)
              assert.ok(
                others.length <= 1 && others.every(({ ms, peer }) => now - ms >= 250 && peer !== one.peer),
                'asked too often'
              )
              owed.push({ ...one, ms: now })
            }
            assert.equal(scheduler.outstanding, owed.length)
            assert.ok(owed.length <= limits.blobChunksOutstandingMax)
            for (const peer of held.keys())
              assert.ok(owed.filter(one => one.peer === peer).length <= limits.blobChunksPerHolderMax)
          }
          ask()
          for (const { do: what, place } of events) {
            const peers = [...held.keys()]
            if (what === 'wait') now += place
            else if (what === 'grow' && peers.length > 0) {
              const peer = peers[place % peers.length]!
              for (let chunk = 0; chunk < count; chunk++) if ((chunk + place) % 3 === 0) held.get(peer)!.add(chunk)
              tell(peer)
            } else if (what === 'drop' && peers.length > 1) {
              const peer = peers[place % peers.length]!
              held.delete(peer)
              scheduler.drop(peer)
              for (let at = owed.length - 1; at >= 0; at--) if (owed[at]!.peer === peer) owed.splice(at, 1)
            } else if ((what === 'answer' || what === 'refuse') && owed.length > 0) {
              const [one] = owed.splice(place % owed.length, 1)
              if (what === 'refuse') {
                held.get(one!.peer)!.delete(one!.chunk)
                scheduler.refused(one!.peer, one!.chunk)
              } else {
                assert.equal(scheduler.arrived(one!.peer, one!.chunk, now), !here.has(one!.chunk))
                here.add(one!.chunk)
              }
            }
            ask()
          }
          // One that has everything comes: from here on all that is owed is answered.
          held.set('last', new Set(everyChunk(count)))
          tell('last')
          for (let turns = 0; !scheduler.done; turns++) {
            // Companions that a slow answer has made it patient with are waited for, up to 15 seconds (patienceMsMax).
            assert.ok(turns < 10 * count + 250, 'it does not end')
            now += 100
            ask()
            for (const one of owed.splice(0)) {
              scheduler.arrived(one.peer, one.chunk, now)
              here.add(one.chunk)
            }
          }
          assert.equal(here.size, count)
        }
      ),
      { numRuns: 400 }
    )
  })

  it('ends with holders that have a part each', () => {
    const scheduler = new BlobScheduler(30, everyChunk(30), 'seed', 0)
    for (const rest of [0, 1, 2])
      scheduler.learn(
        `h${rest}`,
        bitmapOf(
          everyChunk(30).filter(chunk => chunk % 3 === rest),
          30
        ),
        [],
        0
      )
    const asked = play(scheduler, 0)
    assert.ok(scheduler.done)
    assert.equal(asked.length, 30)
    for (const { peer, chunk } of asked) assert.equal(peer, `h${chunk % 3}`)
  })
})

describe('blob offers', () => {
  it('go to one receiver each, until all have been offered', () => {
    const offers = new BlobOffers(40)
    const given = new Map<number, string>()
    for (let turn = 0; turn < 5; turn++) {
      for (const peer of ['a', 'b', 'c']) {
        for (const chunk of offers.offer(peer, null, null, 3, turn)) {
          assert.ok((given.get(chunk) ?? peer) === peer, `chunk ${chunk} was offered to ${given.get(chunk)} and to ${peer}`)
          given.set(chunk, peer)
        }
      }
    }
    assert.equal(given.size, 40)
  })

  it('hold only what the asker lacks and the holder has', () => {
    const offers = new BlobOffers(16)
    const got = offers.offer('a', bitmapOf([1, 2, 3], 16), bitmapOf([2, 3, 4], 16), 9, 0)
    assert.deepEqual(got, [2, 3])
  })

  it('are free again when they were not taken up, later when they were, at once when their receiver is gone', () => {
    const offers = new BlobOffers(2)
    assert.deepEqual(offers.offer('a', null, null, 1, 0), [0])
    assert.deepEqual(offers.offer('b', null, bitmapOf([0], 2), 1, 9_000), [])
    assert.deepEqual(offers.offer('b', null, bitmapOf([0], 2), 1, 11_000), [0])
    offers.gave('b', 0, 11_000)
    assert.deepEqual(offers.offer('a', null, bitmapOf([0], 2), 1, 70_000), [])
    assert.deepEqual(offers.offer('a', null, bitmapOf([0], 2), 1, 72_000), [0])
    // Who asks for what another was offered is no more to pass it on than that one.
    offers.gave('c', 0, 73_000)
    assert.deepEqual(offers.offer('b', null, bitmapOf([0], 2), 1, 82_500), [0])
    offers.gave('a', 0, 93_000)
    offers.forget('a')
    assert.deepEqual(offers.offer('b', null, bitmapOf([0], 2), 1, 93_000), [0])
  })
})

describe('bitmaps', () => {
  it('hold what was put into them, and nothing past their end', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(299)), places => {
        const bitmap = bitmapOf(places, 300)
        assert.deepEqual(
          everyChunk(400).filter(place => hasBit(bitmap, place)),
          [...places].sort((a, b) => a - b)
        )
      })
    )
  })
})
