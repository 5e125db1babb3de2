/**
 * A peer with a member's key that runs no node: it says on topics, asks, answers and gives what no honest node would (liar.ts only says). Its member has to
 * have stopped.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FederationId, Link, PeerName } from '../../src/ids.ts'
import { BlobExchange } from '../../src/net/blob-exchange.ts'
import { Direct } from '../../src/net/direct.ts'
import { Gossip } from '../../src/net/gossip.ts'
import type { Host } from '../../src/net/host.ts'
import { Blobs } from '../../src/node/blobs.ts'
import { isMalformed } from '../../src/wire/codec.ts'
import {
  type Answer,
  answerCodec,
  consensusCodec,
  type ConsensusEnvelope,
  type Question,
  questionCodec,
  topicCodec,
  type TopicMessage
} from '../../src/wire/messages.ts'
import { topicOf } from '../../src/wire/protocol-ids.ts'
import { loopbackHost } from '../../bench/loopback-host.ts'
import type { TestNode } from './cluster.ts'

export class Impostor {
  readonly host: Host
  readonly blobs: Blobs
  readonly exchange: BlobExchange
  readonly heard: { from: PeerName; message: TopicMessage }[] = []
  readonly asked: { from: PeerName; question: Question }[] = []
  /** To what it is asked; null: it never answers. */
  answer: (question: Question) => Answer | null = () => null
  /** Whether it gives a blob that it has. */
  gives: (peer: PeerName, blob: Link) => boolean = () => true
  readonly #folder: string
  readonly #gossip: Gossip
  #direct!: Direct

  private constructor(host: Host, folder: string, blobs: Blobs, exchange: (impostor: Impostor) => BlobExchange) {
    this.host = host
    this.blobs = blobs
    this.exchange = exchange(this)
    this.#folder = folder
    this.#gossip = new Gossip(host)
  }

  /** @param identity - left out: a stranger's. @param nodes - those that it knows. @param topics - of federations. */
  static async start(identity: Uint8Array | null, nodes: TestNode[], topics: FederationId[] = []): Promise<Impostor> {
    const bootstrap = nodes.flatMap(({ folder }) => folder.running()?.addresses ?? [])
    const host = await loopbackHost({ bootstrap, ...(identity === null ? {} : { identity }) })
    const folder = mkdtempSync(join(tmpdir(), 'worldlm-impostor-'))
    const { blobs } = await Blobs.open(join(folder, 'blobs'))
    let made: Impostor | null = null
    const allow = (peer: PeerName, blob: Link) => (made!.gives(peer, blob) ? 'shared' : 'forbidden')
    const exchange = await BlobExchange.start({ host, store: blobs, allow, onLiar: () => undefined })
    made = new Impostor(host, folder, blobs, () => exchange)
    await made.#open(nodes, topics)
    return made
  }

  async #open(nodes: TestNode[], topics: FederationId[]): Promise<void> {
    this.#direct = await Direct.start(
      this.host,
      () => undefined,
      async (from, bytes) => {
        const question = questionCodec.decode(bytes)
        if (isMalformed(question)) throw new Error(question.detail)
        this.asked.push({ from, question })
        const answer = this.answer(question)
        return answer === null ? new Promise<never>(() => undefined) : answerCodec.encode(answer)
      }
    )
    for (const { peer, folder } of nodes) await this.host.learn(peer, folder.running()?.addresses ?? [])
    for (const federation of topics)
      this.#gossip.join(
        topicOf(federation),
        () => 'accept',
        (from, bytes) => {
          const message = topicCodec.decode(bytes)
          if (!isMalformed(message)) this.heard.push({ from, message })
        }
      )
    for (const federation of topics) while (this.#gossip.subscribers(topicOf(federation)).length === 0) await sleep(50)
    // The mesh forms with the next heartbeat of gossipsub.
    if (topics.length > 0) await sleep(1_500)
  }

  say(federation: FederationId, message: TopicMessage): Promise<void> {
    return this.sayBytes(federation, topicCodec.encode(message))
  }

  /** What no codec makes, too. */
  sayBytes(federation: FederationId, bytes: Uint8Array): Promise<void> {
    return this.#gossip.publish(topicOf(federation), bytes)
  }

  send(peer: PeerName, envelope: ConsensusEnvelope): void {
    this.#direct.send(peer, consensusCodec.encode(envelope))
  }

  async ask(peer: PeerName, question: Question): Promise<Answer> {
    const answer = answerCodec.decode(await this.#direct.ask(peer, questionCodec.encode(question), 10_000))
    if (isMalformed(answer)) throw new Error(answer.detail)
    return answer
  }

  /** A blob of these bytes, which it then has. */
  async put(bytes: Uint8Array): Promise<{ link: Link; bytes: number }> {
    const path = join(this.#folder, 'made')
    writeFileSync(path, bytes)
    return this.blobs.put(path)
  }

  /** @returns how the pull ended: `fetched`, or its error's code. */
  async fetch(blob: Link, holder: PeerName): Promise<string> {
    try {
      await this.exchange.pull(blob, [holder])
      return 'fetched'
    } catch (error) {
      return (error as { code?: string }).code ?? String(error)
    }
  }

  async stop(): Promise<void> {
    await this.host.stop()
    await this.blobs.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
