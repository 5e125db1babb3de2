/** The charter of a federation that a node has heard of by its id alone: whom it asks, whom it believes, and how long it waits. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { fetchCharter } from '../../src/node/charters.ts'
import type { Services } from '../../src/node/services.ts'
import { isMalformed } from '../../src/wire/codec.ts'
import { answerCodec, questionCodec } from '../../src/wire/messages.ts'
import { LogBuilder } from '../wire/peers.ts'

const builder = new LogBuilder()
const entries = (charter: Uint8Array | null) => answerCodec.encode({ kind: 'entries', charter, entries: [], headIndex: 0 })
const unknown = () => answerCodec.encode({ kind: 'unknown-federation' })
const never = () => new Promise<Uint8Array>(() => undefined)

/** @param answers - of the peers that it is connected to. @param providers - which of them the directory names. */
function seeker(answers: Record<string, () => Uint8Array | Promise<Uint8Array>>, providers: string[] = []) {
  const asked: { peer: string; atMs: number }[] = []
  const warned: { code: string; atMs: number }[] = []
  let goal = (): boolean => false
  let isStopped = false
  const services = {
    directory: {
      follow: (id: string, isFound: () => boolean) => {
        assert.equal(id, builder.id)
        goal = isFound
      },
      providers: () => new Set(providers)
    },
    host: { connectedPeers: () => Object.keys(answers) },
    direct: {
      ask: async (peer: string, question: Uint8Array) => {
        const read = questionCodec.decode(question)
        assert.ok(!isMalformed(read) && read.kind === 'entries' && read.federation === builder.id && read.fromIndex === 0)
        asked.push({ peer, atMs: performance.now() })
        return answers[peer]!()
      }
    },
    events: { emit: ({ code }: { code: string }) => warned.push({ code, atMs: performance.now() }) }
  }
  const found = fetchCharter(services as unknown as Services, builder.id, () => isStopped)
  const stop = () => {
    isStopped = true
  }
  return { found, asked, warned, stop, isFound: () => goal() }
}

describe('a charter that is looked for', () => {
  const nowReally = performance.now
  /** How much faster than real its clock goes. */
  let speed = 1
  beforeEach(() => {
    speed = 1
    const began = nowReally.call(performance)
    performance.now = () => began + speed * (nowReally.call(performance) - began)
  })
  afterEach(() => {
    performance.now = nowReally
  })

  it('is the one of its id, from whoever has it: what others say is passed over', async () => {
    const other = new LogBuilder({ seed: 1 }).charterBytes
    const { found, isFound } = seeker({
      malformed: () => Uint8Array.of(1),
      gone: () => {
        throw new Error('cannot be reached')
      },
      unknowing: unknown,
      liar: () => entries(other),
      follower: async () => {
        await sleep(120)
        return entries(builder.charterBytes)
      }
    })
    assert.equal(isFound(), false)
    assert.deepEqual(await found, builder.charterBytes)
    assert.equal(isFound(), true, 'the directory need look no more')
  })

  it('is asked of a few at a time, first of those that the directory names, whom no stranger that is silent holds up', async () => {
    const strangers = Object.fromEntries(Array.from({ length: 30 }, (_, place) => [`stranger ${place}`, never]))
    const likely = Object.fromEntries(Array.from({ length: 30 }, (_, place) => [`provider ${place}`, never]))
    const alone = seeker(strangers)
    const both = seeker({ ...strangers, ...likely }, Object.keys(likely))
    await sleep(130)
    assert.deepEqual(
      alone.asked.map(({ peer }) => peer),
      Object.keys(strangers).slice(0, 4)
    )
    assert.deepEqual(
      both.asked.map(({ peer }) => peer),
      Object.keys(likely).slice(0, 8)
    )
    for (const { found, stop } of [alone, both]) {
      stop()
      await assert.rejects(found, { code: 'STOPPED' })
    }
  })

  it('is asked for again, of those that the directory names sooner, and every ten seconds it is said that it is missing', async () => {
    speed = 20
    const { found, asked, warned, stop } = seeker({ stranger: unknown, provider: () => entries(null) }, ['provider'])
    await sleep(1_300)
    stop()
    await assert.rejects(found, { code: 'STOPPED' })
    const of = (peer: string) => asked.filter(one => one.peer === peer)
    const areApart = (times: { atMs: number }[], leastMs: number) =>
      times.every(({ atMs }, place) => place === 0 || atMs - times[place - 1]!.atMs >= leastMs)
    assert.ok(of('provider').length > of('stranger').length && areApart(of('provider'), 500))
    assert.ok(of('stranger').length >= 2 && areApart(of('stranger'), 5_000))
    assert.ok(warned.length >= 1 && areApart(warned, 10_000))
    assert.equal(warned[0]!.code, 'CHARTER_UNKNOWN')
  })
})
