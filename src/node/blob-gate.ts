/**
 * Who may fetch which blob from this node (docs/governance.md, "Egress"): the gate that the blob exchange asks before each answer.
 *
 *   initial parameters, tokenizer       everybody: who joins begins with them
 *   a residual                          bridges that it was granted to; on a bridge, the targets that it is brought to; on a target nobody, if any charter of its way forbids anything
 *   models, updates, contributions      by the rules of the federation that made them, for the places that its rosters know of the peer
 *   what cannot be told                 by the rules of every federation that this node follows
 *
 * A blob that is several of these may leave as one or the other. Is not: the rules (governance/egress.ts).
 */
import type { Update } from '../federation/entry.ts'
import { memberOf, rosterPeers } from '../federation/membership.ts'
import { forbidsAny, mayFetch, type Place, type TensorClass } from '../governance/egress.ts'
import type { FederationId, Link, PeerName } from '../ids.ts'
import type { Permission } from '../net/blob-server.ts'
import { backboneRanges } from '../model/layout.ts'
import { readUpdate } from '../wire/certified-log.ts'
import { chainOf, type FederationCore } from './federation-core.ts'

/** Refusals that were told of; each pair once. */
const toldMax = 1_000
/** The one that waits, and the one that was counted last. */
const ownMax = 2

export class BlobGate {
  readonly #federations: () => FederationCore[]
  readonly #onRefused: (peer: PeerName, detail: string) => void
  readonly #told = new Set<string>()
  /** Blobs of the organization's newest updates, by their links. */
  readonly #own = new Map<Link, Link>()

  /** @param onRefused - told once for each peer and blob. */
  constructor(federations: () => FederationCore[], onRefused: (peer: PeerName, detail: string) => void) {
    this.#federations = federations
    this.#onRefused = onRefused
  }

  /** `alone`: as a residual, also where it might have it as an update: it cannot know what it is, and refuses those that have it as one. */
  permission(peer: PeerName, blob: Link): Permission {
    if (this.#readers(blob).some(granted => granted.has(peer))) return 'alone'
    const why = this.#refusal(peer, blob)
    if (why === null) return 'shared'
    const pair = `${peer} ${blob}`
    if (!this.#told.has(pair) && this.#told.size < toldMax) {
      this.#told.add(pair)
      this.#onRefused(peer, `${blob}: ${why}`)
    }
    return 'forbidden'
  }

  #readers(blob: Link): ReadonlySet<PeerName>[] {
    return this.#federations().flatMap(({ residuals }) => residuals.readersOf(blob) ?? [])
  }

  /** But as a residual. */
  #refusal(peer: PeerName, blob: Link): string | null {
    const federations = this.#federations()
    const readers = this.#readers(blob)
    const isFree = !federations.some(({ options }) => forbidsAny([options.charter]))
    if (readers.length === 0 && isFree) return null
    if (federations.some(({ options: { charter } }) => charter.initial === blob || charter.tokenizer === blob)) return null
    const makers = federations.flatMap(federation => this.#makerOf(federation, blob) ?? [])
    if (makers.length === 0 && readers.length > 0) return 'a residual that was not granted to it'
    const places = federations.flatMap(federation => placesIn(federation, peer))
    const why = (makers.length > 0 ? makers : federations).map(maker => ruling(maker, places))
    // As one of several blobs it may leave; as one that cannot be told, only where all agree.
    if (makers.length > 0 && why.includes(null)) return null
    return why.find(reason => reason !== null) ?? null
  }

  /** The federation by whose rules this blob leaves, if `federation` knows it. */
  #makerOf(federation: FederationCore, blob: Link): FederationCore | null {
    const { known, round, consensus } = federation.state
    const inputs = 'inputs' in round ? round.inputs : []
    const update = [...known.values(), ...inputs].find(one => one.update.blob === blob)?.update
    // A child's contribution leaves by the child's rules, where this node follows the child.
    if (update !== undefined) return federation.options.sibling(update.member as FederationId) ?? federation
    if (federation.log.blobs.has(blob) || this.#isOwnUpdate(federation, blob)) return federation
    const made: (Link | null)[] = []
    if ('result' in round) made.push(round.result.model, round.result.contribution, round.result.outer)
    if ('body' in round) made.push(round.body.model, round.body.outer)
    const open = consensus.accepted?.entry
    if (open?.kind === 'round') made.push(open.model, open.outer)
    return made.includes(blob) ? federation : null
  }

  /**
   * A node that comes back announces its update once it has caught up; those that know it already ask for it at once. And who has not heard
   * yet that a round is certified asks for what it counts.
   */
  #isOwnUpdate({ organization, signedUpdates, state: { head, self } }: FederationCore, blob: Link): boolean {
    if (organization === null) return false
    const { pending } = organization
    if (pending !== null && this.#blobOf(pending.link, pending.signed) === blob) return true
    const counted = head.entry?.inputs.find(({ member }) => member === self)?.update
    const signed = counted === undefined ? undefined : signedUpdates.get(counted)
    return signed !== undefined && this.#blobOf(counted!, signed) === blob
  }

  #blobOf(link: Link, signed: Uint8Array): Link | null {
    const blob = this.#own.get(link) ?? readUpdate(signed)?.update.blob ?? null
    if (blob !== null) this.#own.set(link, blob)
    for (const oldest of this.#own.keys()) if (this.#own.size > ownMax) this.#own.delete(oldest)
    return blob
  }
}

/**
 * Who forbids that what the member of this update has made comes to `node`'s federation, and why; null if nobody does, or the member is no
 * child that this node follows. A delegate that leads the parent too has the child's blob already, as its member, and need not fetch it.
 */
export function forbiddenHere({ options }: FederationCore, { member }: Update): string | null {
  const child = options.sibling(member as FederationId)
  return child === null ? null : ruling(child, [{ path: options.charter.path, kind: 'federation' }])
}

/** @returns who forbids it, and why; null if nobody does. */
function ruling(maker: FederationCore, places: Place[]): string | null {
  const { layout } = maker
  const tensors: TensorClass[] = []
  if (layout.groups.length > 0) tensors.push('keys')
  if (backboneRanges(layout).length > 0) tensors.push('backbone')
  const consent = mayFetch({ tensors, line: chainOf(maker).map(({ options }) => options.charter) }, places)
  return consent.allowed ? null : `${consent.by}: ${consent.reason}`
}

/**
 * As a member, and as one that acts for the federation. A member calls itself what it likes: one with a slash in its name would be in a
 * federation below.
 */
function placesIn({ state: { roster }, options: { charter } }: FederationCore, peer: PeerName): Place[] {
  if (!rosterPeers(roster, charter).has(peer)) return []
  const member = memberOf(roster, peer)
  const kind = member?.kind === 'federation' ? 'federation' : 'organization'
  const name = member === null || member.name.includes('/') ? peer : member.name
  const places: Place[] = [{ path: `${charter.path}/${name}`, kind }]
  if (roster.voters.includes(peer)) places.push({ path: charter.path, kind: 'federation' })
  return places
}
