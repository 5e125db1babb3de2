/** The daemon's HTTP API on a real node that trains by itself, a federation of one. */
import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pino from 'pino'
import { z } from 'zod'
import { errorSchema, federationSchema, peerSchema, roundSchema, statusSchema } from '../../src/api/schema.ts'
import { startApi } from '../../src/api/server.ts'
import { readConfig } from '../../src/config.ts'
import { WorldlmError } from '../../src/errors.ts'
import { EventLog, eventsKeptMax } from '../../src/node/events.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { initNodeFolder, writeCharter } from '../../src/node/genesis.ts'
import { type RunningNode, startNode } from '../../src/node/node.ts'
import type { NodeView } from '../../src/node/status.ts'
import { temporaryFolder, textOf, writeTree } from '../temporary.ts'

const model = { layers: 1, width: 8, hidden: 12, heads: 2, context: 16, vocabulary: 256 }

describe('the HTTP API', function () {
  this.timeout(60_000)
  let node: RunningNode
  let api: Awaited<ReturnType<typeof startApi>>
  let id: string
  let token: string

  before(async () => {
    const data = writeTree({ 'train.txt': textOf(9000) })
    const folder = new NodeFolder(join(temporaryFolder(), 'node'))
    await initNodeFolder(folder, {
      name: 'Klinik',
      data,
      listen: ['/ip4/127.0.0.1/tcp/0'],
      engine: { threads: 1 },
      validationTokens: 64
    })
    id = writeCharter(folder, { name: 'world', model, algorithm: { steps: 2, batch: 2, rounds: 3 } }, null).id
    token = folder.token()
    const config = readConfig(folder.config, {}, { federations: [{ id }] })
    node = await startNode({ folder, config, log: pino({ level: 'silent' }) })
    api = await startApi(node, { host: '127.0.0.1', port: 0, token, version: '0.1.0' })
    while (node.status().phase !== 'finished') await sleep(50)
  })
  after(async () => {
    await api?.close()
    await node?.stop()
  })

  const get = (path: string, init: RequestInit = {}) => fetch(api.address + path, init)
  /** With a Host header of one's own, which fetch does not let one set. */
  const statusFor = (path: string, headers: Record<string, string>, localAddress?: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const { port } = new URL(api.address)
      httpRequest({ host: '127.0.0.1', port, path, headers, localAddress }, response => {
        response.resume()
        resolve(response.statusCode ?? 0)
      })
        .on('error', reject)
        .end()
    })

  it('answers as its schemas say', async () => {
    const status = statusSchema.parse(await (await get('/v1/status')).json())
    assert.deepEqual([status.organization.name, status.phase, status.peer], ['Klinik', 'finished', node.peer])
    assert.ok(status.evaluations.personal!.perplexity > 1)
    z.array(peerSchema).parse(await (await get('/v1/peers')).json())
    const federations = z.array(federationSchema).parse(await (await get('/v1/federations')).json())
    assert.deepEqual(
      federations.map(({ path, round, role, aggregator }) => [path, round, role, aggregator]),
      [['world', 3, 'organization', node.peer]]
    )
    assert.deepEqual(federationSchema.parse(await (await get(`/v1/federations/${id}`)).json()), federations[0])
    assert.deepEqual(await (await get('/v1/federations/world')).json(), federations[0])
    const rounds = z.array(roundSchema).parse(await (await get(`/v1/federations/${id}/rounds`)).json())
    assert.deepEqual(
      rounds.map(({ round, included }) => [round, included.map(({ member }) => member)]),
      [1, 2, 3].map(round => [round, [node.peer]])
    )
  })

  it('gives a part of a long log, and says what is wrong with a part that there is not', async () => {
    const part = async (query: string) =>
      z
        .array(roundSchema)
        .parse(await (await get(`/v1/federations/world/rounds?${query}`)).json())
        .map(({ round }) => round)
    assert.deepEqual(
      [await part('last=2'), await part('before=3'), await part('last=1&before=3'), await part('before=1')],
      [[2, 3], [1, 2], [2], []]
    )
    for (const query of ['last=0', 'last=1001', 'before=soon']) {
      const answer = await get(`/v1/federations/world/rounds?${query}`)
      assert.equal(answer.status, 400, query)
      assert.equal(errorSchema.parse(await answer.json()).code, 'USAGE')
    }
  })

  it('is healthy and ready, and says what it is not', async () => {
    assert.deepEqual(await (await get('/healthz')).json(), { ok: true, phase: 'finished' })
    assert.equal((await get('/readyz')).status, 200)
    for (const path of ['/nowhere', '/v1/federations/bafyother', '/v1/federations/other/rounds']) {
      const answer = await get(path)
      assert.equal(answer.status, 404)
      assert.notEqual(errorSchema.parse(await answer.json()).hint, '')
    }
  })

  it('takes a POST with whatever body, which nothing reads, and answers what asks for the headers alone', async () => {
    const leave = (federation: string, type?: string, body?: string) =>
      get(`/v1/federations/${federation}/leave`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, ...(type !== undefined && { 'content-type': type }) },
        body
      })
    for (const [type, body] of [
      [],
      ['application/json'],
      ['application/json', '{'],
      ['application/x-www-form-urlencoded', 'a=b'],
      ['text/csv', 'x'.repeat(3e6)]
    ])
      assert.equal((await leave('nobody', type, body)).status, 404, type)
    assert.deepEqual(
      [(await get('/healthz', { method: 'HEAD' })).status, await statusFor('/healthz', { host: 'evil' })],
      [200, 401]
    )
    const odd = await get('/v1/federations/100%25')
    assert.deepEqual([odd.status, errorSchema.parse(await odd.json()).code], [404, 'UNKNOWN_FEDERATION'])
  })

  it('says of what cannot be done now that it is not its own mistake', async () => {
    const view = {
      status: () => ({ federations: [{ id: 'parent', path: 'world' }] }),
      leave: (_: string, now: boolean) => {
        if (now) throw new WorldlmError('NOT_JOINED', 'this node is no member of it', 'See there.')
        throw new Error('broken')
      }
    }
    const other = await startApi(view as unknown as NodeView, { host: '127.0.0.1', port: 0, token, version: '0.1.0' })
    try {
      for (const [query, status, code] of [
        ['?now=true', 409, 'NOT_JOINED'],
        ['', 500, 'INTERNAL']
      ] as const) {
        const headers = { authorization: `Bearer ${token}` }
        const answer = await fetch(`${other.address}/v1/federations/world/leave${query}`, { method: 'POST', headers })
        assert.deepEqual([answer.status, errorSchema.parse(await answer.json()).code], [status, code])
      }
    } finally {
      await other.close()
    }
  })

  it('is not ready while it begins and while it stops', async () => {
    let phase = ''
    const view = { status: () => ({ phase }) }
    const other = await startApi(view as unknown as NodeView, { host: '127.0.0.1', port: 0, token, version: '0.1.0' })
    try {
      for (const [name, status] of Object.entries({
        starting: 503,
        joining: 503,
        training: 200,
        waiting: 200,
        stopping: 503
      })) {
        phase = name
        assert.equal((await fetch(`${other.address}/readyz`)).status, status, name)
        assert.equal((await fetch(`${other.address}/healthz`)).status, 200)
      }
    } finally {
      await other.close()
    }
  })

  it('has metrics that Prometheus reads', async () => {
    const answer = await get('/metrics')
    assert.match(answer.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/)
    const text = await answer.text()
    for (const line of [
      'worldlm_rounds_certified_total{federation="world"} 3',
      'worldlm_round{federation="world"} 3',
      'worldlm_trained_tokens_total 192'
    ])
      assert.ok(text.includes(line), `${line} in\n${text}`)
    for (const line of text.trimEnd().split('\n'))
      assert.match(line, /^(# (HELP|TYPE) .+|[a-z_]+(\{.*\})? [\d.e+-]+|[a-z_]+(\{.*\})? NaN|)$/)
  })

  it('tells all that it keeps to whoever asks late, or reads slowly, and goes on with what happens', async () => {
    const events = new EventLog()
    const happen = (rounds: number) => {
      for (let round = 1; round <= rounds; round++) events.emit({ type: 'trained', round, loss: 1, tokens: 1, seconds: 1 })
    }
    happen(eventsKeptMax + 100)
    const view = {
      eventsSince: (seq: number) => events.since(seq),
      subscribe: (listener: () => void) => events.subscribe(listener)
    }
    const busy = await startApi(view as unknown as NodeView, { host: '127.0.0.1', port: 0, token, version: '0.1.0' })
    try {
      for (const pauseMs of [0, 300]) {
        const first = events.since(0)[0]!.seq
        const ending = new AbortController()
        const response = await fetch(`${busy.address}/v1/events`, { signal: ending.signal })
        await sleep(pauseMs)
        happen(50)
        const last = events.since(0).at(-1)!.seq
        const seen: number[] = []
        const decoder = new TextDecoder()
        let rest = ''
        for await (const chunk of response.body!) {
          const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
          rest = lines.pop()!
          for (const line of lines) if (line.startsWith('id: ')) seen.push(Number(line.slice(4)))
          if (seen.at(-1) === last) break
        }
        ending.abort()
        // Those that the new ones took the place of may be left out.
        assert.ok(seen[0]! >= first && seen.length >= eventsKeptMax, `${seen.length} from ${seen[0]} on, of ${first} and on`)
        assert.ok(seen.filter((seq, place) => place > 0 && seq !== seen[place - 1]! + 1).length <= 1)
      }
    } finally {
      await busy.close()
    }
  })

  it('answers at once who waits for what happens, though nothing does, and keeps nothing of who hangs up', async () => {
    const events = new EventLog()
    let listeners = 0
    const view = {
      eventsSince: (seq: number) => events.since(seq),
      subscribe: (listener: () => void) => {
        listeners++
        const end = events.subscribe(listener)
        return () => {
          listeners--
          end()
        }
      }
    }
    for (let round = 1; round <= 3; round++) events.emit({ type: 'finished', round })
    const timers = () => process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length
    const before = timers()
    const other = await startApi(view as unknown as NodeView, { host: '127.0.0.1', port: 0, token, version: '0.1.0' })
    try {
      const ending = new AbortController()
      // The number of an earlier start. Nobody is to wait for the first sign of life, 15 seconds later.
      const signal = AbortSignal.any([ending.signal, AbortSignal.timeout(10_000)])
      const response = await fetch(`${other.address}/v1/events?since=5000`, { signal })
      assert.equal(listeners, 1)
      events.emit({ type: 'finished', round: 4 })
      for await (const chunk of response.body!) {
        assert.match(new TextDecoder().decode(chunk), /^id: 4\n/)
        break
      }
      ending.abort()
      while (listeners > 0) await sleep(20)
    } finally {
      await other.close()
    }
    // Its sign of life, too.
    for (let tries = 0; timers() > before && tries < 500; tries++) await sleep(20)
    assert.ok(timers() <= before)
  })

  it('tells events by number, from the one that is asked for', async () => {
    async function some(path: string, headers: Record<string, string> = {}, count = 5) {
      const abort = new AbortController()
      const answer = await get(path, { headers, signal: abort.signal })
      assert.equal(answer.headers.get('content-type'), 'text/event-stream')
      let text = ''
      const decoder = new TextDecoder()
      for await (const chunk of answer.body!) {
        text += decoder.decode(chunk, { stream: true })
        if (text.split('\n\n').length > count) break
      }
      abort.abort()
      return text
        .split('\n\n')
        .slice(0, count)
        .map(block => JSON.parse(/^data: (.*)$/m.exec(block)![1]!) as { seq: number; type: string })
    }
    assert.deepEqual(
      (await some('/v1/events')).map(({ seq }) => seq),
      [1, 2, 3, 4, 5]
    )
    assert.deepEqual(
      (await some('/v1/events?since=7')).map(({ seq }) => seq),
      [8, 9, 10, 11, 12]
    )
    assert.deepEqual(
      (await some('/v1/events', { 'last-event-id': '3' }, 2)).map(({ seq }) => seq),
      [4, 5]
    )
    assert.deepEqual(
      (await some('/v1/events?since=nonsense', {}, 1)).map(({ seq }) => seq),
      [1]
    )
  })

  it('describes itself: every address stands in /openapi.json', async () => {
    const { openapi, paths } = (await (await get('/openapi.json')).json()) as {
      openapi: string
      paths: Record<string, unknown>
    }
    assert.equal(openapi, '3.0.3')
    for (const path of [
      '/v1/status',
      '/v1/peers',
      '/v1/federations',
      '/v1/federations/{id}',
      '/v1/federations/{id}/rounds',
      '/v1/events',
      '/v1/stop',
      '/healthz',
      '/readyz',
      '/metrics'
    ])
      assert.ok(path in paths, path)
  })

  it('answers a page that was tricked into asking, or that comes from another name, only with the token', async () => {
    assert.equal(await statusFor('/v1/status', { host: 'evil.example' }), 401)
    assert.equal(await statusFor('/v1/status', { host: 'evil.example:4880' }), 401)
    assert.equal(await statusFor('/v1/status', { host: 'evil.example', authorization: `Bearer ${token}` }), 200)
    for (const host of ['localhost', 'localhost:1', '127.0.0.1:4880', '[::1]:4880'])
      assert.equal(await statusFor('/v1/status', { host }), 200, host)
  })

  it('answers who comes from any other address only with the token', async function () {
    // Of this machine Linux gives more than one.
    if (process.platform !== 'linux') this.skip()
    const host = 'localhost'
    assert.equal(await statusFor('/v1/status', { host }, '127.0.0.2'), 401)
    assert.equal(await statusFor('/v1/status', { host, authorization: `Bearer ${token}` }, '127.0.0.2'), 200)
  })

  it('changes nothing without the token, on loopback either', async () => {
    for (const headers of [
      {},
      { authorization: 'Bearer wrong' },
      { authorization: token },
      { authorization: `Basic ${token}` }
    ]) {
      for (const path of ['/v1/stop', '/v1/stop?x=1', '/v1/stop/', '/v1/status']) {
        const answer = await get(path, { method: 'POST', headers })
        assert.equal(answer.status, 401, `${path} ${JSON.stringify(headers)}`)
        assert.equal(errorSchema.parse(await answer.json()).code, 'UNAUTHORIZED')
      }
    }
    assert.equal(node.status().phase, 'finished')
  })

  it('says which port is taken', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise(resolve => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    await assert.rejects(startApi(node, { host: '127.0.0.1', port, token, version: '' }), {
      code: 'PORT_IN_USE',
      message: new RegExp(`127\\.0\\.0\\.1:${port}`)
    })
    server.close()
  })

  it('stops the node for who has the token', async () => {
    const answer = await get('/v1/stop', { method: 'POST', headers: { authorization: `Bearer ${token}` } })
    assert.equal(answer.status, 200)
    assert.equal(await node.done, null)
    assert.equal(node.status().phase, 'stopping')
  })
})
