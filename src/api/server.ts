/**
 * The node's HTTP API (docs/architecture.md, "The API"): read by whoever is on this machine; what changes state needs the token.
 */
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { z } from 'zod'
import { WorldlmError } from '../errors.ts'
import type { NodeView } from '../node/status.ts'
import { errorSchema, federationSchema, healthSchema, peerSchema, roundSchema, statusSchema } from './schema.ts'

export interface ApiOptions {
  host: string
  port: number
  token: string
  version: string
}

const keepAliveMs = 15_000

interface Route {
  method: 'get' | 'post'
  path: string
  summary: string
  answer: z.ZodType
  /** Needs the token even on loopback: a POST. */
  changes?: boolean
  handle: (request: FastifyRequest, reply: FastifyReply) => unknown
}

/** @throws {WorldlmError} PORT_IN_USE, naming host and port; BAD_ADDRESS */
export async function startApi(node: NodeView, options: ApiOptions): Promise<{ address: string; close: () => Promise<void> }> {
  const server = fastify({ forceCloseConnections: true })
  const routes = routesOf(node)
  // No address reads a body: what a client sends with its POST, or only announces, is passed over.
  server.removeAllContentTypeParsers()
  server.addContentTypeParser('*', (_request, _payload, done) => done(null))
  server.addHook('onRequest', async (request, reply) => guard(request, reply, options))
  server.setErrorHandler((error, _request, reply) => {
    const { code = 'INTERNAL', message, hint = 'See node.log.' } = error as Partial<WorldlmError>
    void reply.status(code === 'NOT_JOINED' ? 409 : 500).send({ code, message: message ?? String(error), hint })
  })
  server.setNotFoundHandler((request, reply) =>
    reply
      .status(404)
      .send({ code: 'NOT_FOUND', message: `${request.url} is no address of this API`, hint: 'See /openapi.json.' })
  )
  for (const { method, path, handle } of routes) server[method](path, async (request, reply) => handle(request, reply))
  server.get('/v1/events', (request, reply) => watch(node, request, reply))
  server.get('/metrics', async (_request, reply) => reply.type('text/plain; version=0.0.4').send(await node.metrics()))
  server.get('/openapi.json', async () => openapi(routes, options.version))
  return { address: await listen(server, options), close: () => server.close() }
}

async function listen(server: FastifyInstance, { host, port }: ApiOptions): Promise<string> {
  try {
    return await server.listen({ host, port })
  } catch (cause) {
    await server.close()
    if ((cause as NodeJS.ErrnoException).code === 'ENOTFOUND')
      throw new WorldlmError(
        'BAD_ADDRESS',
        `the API cannot listen on ${host}: no such address`,
        'Set api.host to one of this machine’s.',
        {
          cause
        }
      )
    if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE' && (cause as NodeJS.ErrnoException).code !== 'EADDRNOTAVAIL')
      throw cause
    throw new WorldlmError(
      'PORT_IN_USE',
      `the API cannot listen on ${host}:${port}: ${(cause as Error).message}`,
      'Another program has the port: set api.port in worldlm.yaml, or 0 for any free one.',
      { cause }
    )
  }
}

/** A log of months is read in parts: each costs the node's event loop some 0.1 ms. */
const picked = z.object({
  last: z.coerce.number().int().min(1).max(1000).default(1000),
  before: z.coerce.number().int().min(1).default(Number.MAX_SAFE_INTEGER)
})

function routesOf(node: NodeView): Route[] {
  const federationOf = (request: FastifyRequest) => {
    const { id } = request.params as { id: string }
    return node.status().federations.find(federation => federation.id === id || federation.path === id) ?? null
  }
  const unknown = (reply: FastifyReply) =>
    reply
      .status(404)
      .send({ code: 'UNKNOWN_FEDERATION', message: 'this node does not follow that federation', hint: 'See /v1/federations.' })
  const badQuery = (reply: FastifyReply, message: string) =>
    reply.status(400).send({ code: 'USAGE', message, hint: 'See /openapi.json.' })
  return [
    {
      method: 'get',
      path: '/v1/status',
      summary: 'The node, its training, its federations',
      answer: statusSchema,
      handle: () => node.status()
    },
    {
      method: 'get',
      path: '/v1/peers',
      summary: 'Peers that it knows',
      answer: z.array(peerSchema),
      handle: () => node.peers()
    },
    {
      method: 'get',
      path: '/v1/federations',
      summary: 'Federations that it follows',
      answer: z.array(federationSchema),
      handle: () => node.status().federations
    },
    {
      method: 'get',
      path: '/v1/federations/:id',
      summary: 'One federation, by id or path',
      answer: federationSchema,
      handle: (request, reply) => federationOf(request) ?? unknown(reply)
    },
    {
      method: 'get',
      path: '/v1/federations/:id/rounds',
      summary:
        'Its newest certified rounds, oldest first: ?last=N of them (1 to 1000, default 1000), ?before=R those before round R',
      answer: z.array(roundSchema),
      handle: (request, reply) => {
        const federation = federationOf(request)
        const pick = picked.safeParse(request.query)
        if (!pick.success) return badQuery(reply, z.prettifyError(pick.error))
        return federation === null ? unknown(reply) : node.rounds(federation.id, pick.data)
      }
    },
    {
      method: 'post',
      path: '/v1/federations/:id/leave',
      summary:
        'Leaves it: the node asks until the others have certified that, and know it; ?now=true: without waiting for the latter',
      answer: federationSchema,
      changes: true,
      handle: (request, reply) => {
        const federation = federationOf(request)
        if (federation === null) return unknown(reply)
        node.leave(federation.id, (request.query as { now?: string }).now === 'true')
        // It may have gone at once.
        return federationOf(request) ?? federation
      }
    },
    {
      method: 'get',
      path: '/healthz',
      summary: 'Whether the process works',
      answer: healthSchema,
      handle: () => ({ ok: true, phase: node.status().phase })
    },
    {
      method: 'get',
      path: '/readyz',
      summary: 'Whether it takes part',
      answer: healthSchema,
      handle: (_request, reply) => {
        const { phase } = node.status()
        const ok = phase !== 'starting' && phase !== 'joining' && phase !== 'stopping'
        return reply.status(ok ? 200 : 503).send({ ok, phase })
      }
    },
    {
      method: 'post',
      path: '/v1/stop',
      summary: 'Stops the node cleanly',
      answer: healthSchema,
      changes: true,
      handle: () => {
        setImmediate(() => void node.stop())
        return { ok: true, phase: 'stopping' }
      }
    }
  ]
}

/** Any address but loopback, and anything that changes state, needs the token; a foreign Host header is a page that was tricked. */
async function guard(request: FastifyRequest, reply: FastifyReply, { token }: ApiOptions): Promise<void> {
  const local = ['127.0.0.1', '::1', '::ffff:127.0.0.1'].includes(request.ip)
  const named = ['127.0.0.1', 'localhost', '[::1]', '::1'].includes(request.hostname)
  const changes = !['GET', 'HEAD'].includes(request.method)
  if (local && named && !changes) return
  if (request.headers.authorization === `Bearer ${token}`) return
  await reply.status(401).send({
    code: 'UNAUTHORIZED',
    message: 'this needs the bearer token of the node',
    hint: 'It stands in the file `token` in the node’s folder.'
  })
}

/**
 * Server-sent events; `?since=` or Last-Event-ID: after that number. No faster than they are read: what is unsent waits among the node's
 * events, and is left out if it waits for so long that those have gone.
 */
function watch(node: NodeView, request: FastifyRequest, reply: FastifyReply): void {
  const { since } = request.query as { since?: string }
  const after = Number(request.headers['last-event-id'] ?? since ?? 0)
  // Numbers begin anew with the node.
  const newest = node.eventsSince(0).at(-1)?.seq ?? 0
  let sent = Number.isFinite(after) ? Math.min(after, newest) : 0
  reply.hijack()
  const response = reply.raw
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
  // Without them who asks for what is next waits for its answer until that happens.
  response.flushHeaders()
  const send = () => {
    for (const event of response.writableNeedDrain ? [] : node.eventsSince(sent)) {
      sent = event.seq
      if (!response.write(`id: ${event.seq}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`)) return
    }
  }
  response.on('drain', send)
  send()
  const unsubscribe = node.subscribe(send)
  const alive = setInterval(() => response.writableNeedDrain || response.write(': \n\n'), keepAliveMs)
  response.on('close', () => {
    clearInterval(alive)
    unsubscribe()
  })
}

function openapi(routes: Route[], version: string) {
  const json = (schema: z.ZodType) => ({
    content: { 'application/json': { schema: z.toJSONSchema(schema, { target: 'openapi-3.0' }) } }
  })
  const paths: Record<string, unknown> = {
    '/v1/events': {
      get: {
        summary: 'Events as they happen (server-sent events); ?since=N for those after N',
        responses: { 200: { description: 'text/event-stream' } }
      }
    },
    '/metrics': { get: { summary: 'Prometheus metrics', responses: { 200: { description: 'text/plain' } } } },
    '/openapi.json': { get: { summary: 'This document', responses: { 200: { description: 'OpenAPI 3.0' } } } }
  }
  for (const { method, path, summary, answer, changes } of routes) {
    const security = changes === true ? { security: [{ token: [] }] } : {}
    paths[path.replace(/:(\w+)/g, '{$1}')] = {
      [method]: {
        summary,
        ...security,
        responses: { 200: { description: summary, ...json(answer) }, 401: { description: 'No token', ...json(errorSchema) } }
      }
    }
  }
  return {
    openapi: '3.0.3',
    info: { title: 'worldlm node', version },
    paths,
    components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } }
  }
}
