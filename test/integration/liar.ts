/** A peer with a member's key that says what no honest node says: it runs no node, it only speaks on the federation's topic. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { FederationId, Link } from '../../src/ids.ts'
import { Gossip } from '../../src/net/gossip.ts'
import type { Host } from '../../src/net/host.ts'
import { topicCodec } from '../../src/wire/messages.ts'
import { topicOf } from '../../src/wire/protocol-ids.ts'
import { acceptBytes } from '../../src/wire/signature.ts'
import { loopbackHost } from '../../bench/loopback-host.ts'

export class Liar {
  readonly #host: Host
  readonly #gossip: Gossip
  readonly #federation: FederationId

  private constructor(host: Host, federation: FederationId) {
    this.#host = host
    this.#gossip = new Gossip(host)
    this.#federation = federation
    this.#gossip.join(
      topicOf(federation),
      () => 'accept',
      () => undefined
    )
  }

  static async start(identity: Uint8Array, bootstrap: string[], federation: FederationId): Promise<Liar> {
    return new Liar(await loopbackHost({ identity, bootstrap }), federation)
  }

  /** Tells that it accepts each of `entries` at one index and term. */
  async acceptAll(index: number, term: number, entries: Link[]): Promise<void> {
    const topic = topicOf(this.#federation)
    while (this.#gossip.subscribers(topic).length === 0) await sleep(50)
    // The mesh forms with the next heartbeat of gossipsub.
    await sleep(1_500)
    for (const entry of entries) {
      const signature = this.#host.sign(acceptBytes(this.#federation, index, term, entry))
      const signatures = [{ voter: this.#host.peer, signature }]
      const accepts = { federation: this.#federation, index, term, entry, signatures }
      await this.#gossip.publish(topic, topicCodec.encode({ kind: 'accepts', accepts }))
    }
  }

  stop(): Promise<void> {
    return this.#host.stop()
  }
}
