/**
 * The federation directory: who follows a federation, found through the DHT. A federation's id is a CID, and its peers provide it.
 *
 * A record lives for an hour and is provided again every ten minutes; peers that died stay listed until then, so what is found
 * is a hint to dial, never a member.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { CID } from 'multiformats/cid'
import type { FederationId, PeerName } from '../ids.ts'
import type { Host } from './host.ts'

/** While few are known a newcomer asks often: five peers then meet within three seconds. Later it is the others who are missing. */
const eagerMs = 300
const eagerForMs = 30_000
const calmMs = 1_000
const queryTimeoutMs = 5_000
/** After a query that took long, because this machine or the others have much to do, the next one waits the longer. */
const pauseShare = 3
/** Strangers dialed from one answer: gossip needs a few neighbours, and in a federation of a thousand not everyone can know everyone. */
const dialsPerQueryMax = 8
/** Provided again soon while the routing table fills: those who are closest to the id may come later. */
const provideAgainMs = [3_000, 20_000]
const provideEveryMs = 600_000
/** As long as there is nobody to tell. */
const nobodyMs = 50

interface Search {
  /** It goes on until all are reached. */
  goals: (() => boolean)[]
  /** When the newest was set. */
  sinceMs: number
  /** Who was found. */
  providers: Set<PeerName>
}

export class Directory {
  readonly #host: Host
  readonly #abort = new AbortController()
  readonly #loops: Promise<void>[] = []
  /** One search for each federation, whoever asks. */
  readonly #searches = new Map<FederationId, Search>()

  constructor(host: Host) {
    this.#host = host
  }

  /** Provides `federation` and keeps dialing who else does; eagerly until `enough()`. */
  follow(federation: FederationId, enough: () => boolean): void {
    const search = this.#searches.get(federation) ?? { goals: [], sinceMs: 0, providers: new Set<PeerName>() }
    search.goals.push(enough)
    search.sinceMs = performance.now()
    if (this.#searches.has(federation)) return
    this.#searches.set(federation, search)
    this.#loops.push(this.#provide(federation), this.#find(federation, search))
  }

  /** Who was found to follow `federation`: not all of them, and perhaps gone. */
  providers(federation: FederationId): ReadonlySet<PeerName> {
    return this.#searches.get(federation)?.providers ?? new Set()
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    await Promise.allSettled(this.#loops)
  }

  async #provide(federation: FederationId): Promise<void> {
    const { signal } = this.#abort
    while (this.#host.connectedPeers().length === 0) if (!(await pause(nobodyMs, signal))) return
    for (let turn = 0; ; turn++) {
      const query = AbortSignal.any([signal, AbortSignal.timeout(queryTimeoutMs)])
      try {
        await this.#host.libp2p.contentRouting.provide(CID.parse(federation), { signal: query })
      } catch {
        // Nobody took it; the next turn tells again.
      }
      if (!(await pause(provideAgainMs[turn] ?? provideEveryMs, signal))) return
    }
  }

  async #find(federation: FederationId, search: Search): Promise<void> {
    const { signal } = this.#abort
    while (!signal.aborted) {
      const began = performance.now()
      if (this.#host.connectedPeers().length > 0 && !search.goals.every(reached => reached()))
        await this.#query(federation, search)
      const ended = performance.now()
      const least = ended - search.sinceMs < eagerForMs ? eagerMs : calmMs
      if (!(await pause(Math.max(least, pauseShare * (ended - began)), signal))) return
    }
  }

  async #query(federation: FederationId, { providers }: Search): Promise<void> {
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(queryTimeoutMs)])
    const seen = new Set<PeerName>([this.#host.peer])
    let dials = 0
    try {
      for await (const provider of this.#host.libp2p.contentRouting.findProviders(CID.parse(federation), { signal })) {
        const peer = provider.id.toString()
        if (seen.has(peer)) continue
        seen.add(peer)
        providers.add(peer)
        await this.#host.learn(peer, provider.multiaddrs.map(String))
        if (this.#host.connected(peer) || ++dials > dialsPerQueryMax) continue
        this.#host.dial(peer).catch(() => undefined)
      }
    } catch {
      // A query that found nobody, or was cut off: the next one asks again.
    }
  }
}

/** @returns false if the pause was cut short by the end of everything. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await sleep(ms, undefined, { signal })
    return true
  } catch {
    return false
  }
}
