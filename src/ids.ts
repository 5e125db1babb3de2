/**
 * Names that travel. All are strings in memory; `wire` turns links into dag-cbor CIDs.
 */

/** A libp2p Ed25519 PeerId in base58btc (`12D3Koo…`). An organization runs one peer. */
export type PeerName = string

/** CIDv1 (dag-cbor, sha2-256, base32: `bafy…`) of a record or of a blob's index. */
export type Link = string

/** The link of a federation's genesis charter: that document *is* the federation. */
export type FederationId = Link

/** A member of a federation: an organization (its peer) or a child federation (its id). */
export type MemberId = PeerName | FederationId

export const isFederationId = (member: MemberId): boolean => member.startsWith('baf')
