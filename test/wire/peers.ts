/** Peers with real keys, by name: equal names, equal keys; and a federation's log as its voters would certify it. */
import { createHash, createPrivateKey, createPublicKey, sign } from 'node:crypto'
import { base58btc } from 'multiformats/bases/base58'
import type { Certificate, Entry, Member, MembersEntry, RoundEntry, Update } from '../../src/federation/entry.ts'
import {
  applyMembers,
  genesisRoster,
  type MembersChange,
  planMembers,
  type Roster,
  type Wishes
} from '../../src/federation/membership.ts'
import type { Charter } from '../../src/governance/charter.ts'
import { joinBytes } from '../../src/wire/join-proofs.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { enrollRecord } from '../../src/wire/member-proofs.ts'
import { type CertifiedBytes, signedCodec } from '../../src/wire/messages.ts'
import { certificateCodec, charterCodec, entryCodec, updateCodec } from '../../src/wire/records.ts'
import { acceptBytes, type Domain, signedBytes } from '../../src/wire/signature.ts'
import { testCharter } from '../federation/charters.ts'

export class TestPeer {
  readonly name: string
  readonly peer: string
  /** As libp2p stores it (crypto.proto, PrivateKey): type Ed25519, 64 bytes of seed and public key. */
  readonly identity: Uint8Array
  readonly #key: ReturnType<typeof createPrivateKey>

  constructor(name: string) {
    this.name = name
    const seed = createHash('sha256').update(`worldlm test key ${name}`).digest()
    const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed])
    this.#key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    const raw = createPublicKey(this.#key).export({ format: 'der', type: 'spki' }).subarray(12)
    this.peer = base58btc.encode(Uint8Array.from([0x00, 0x24, 0x08, 0x01, 0x12, 0x20, ...raw])).slice(1)
    this.identity = Uint8Array.from([0x08, 0x01, 0x12, 0x40, ...seed, ...raw])
  }

  sign = (bytes: Uint8Array): Uint8Array => new Uint8Array(sign(null, bytes, this.#key))
  signIn = (domain: Domain, record: Uint8Array): Uint8Array => this.sign(signedBytes(domain, record))

  member(federation: string, kind: 'organization' | 'witness' = 'organization'): Member {
    const asked = { member: this.peer, kind, name: this.name }
    return { ...asked, peers: [this.peer], proof: this.sign(joinBytes(federation, asked)) }
  }
}

const known = new Map<string, TestPeer>()
export function peerOf(name: string): TestPeer {
  const peer = known.get(name) ?? new TestPeer(name)
  known.set(name, peer)
  return peer
}

/** A federation founded by `a`; its log grows by entries that all voters sign, unless told otherwise. */
export class LogBuilder {
  readonly charter: Charter
  readonly charterBytes: Uint8Array
  readonly id: string
  readonly entries: CertifiedBytes[] = []
  /** Signed update records by link. */
  readonly updates = new Map<string, Uint8Array>()
  roster: Roster
  head: string
  base: string
  round = 0

  constructor(overrides: Parameters<typeof testCharter>[0] = {}) {
    this.charter = testCharter({ founders: [peerOf('a').peer], ...overrides })
    this.charterBytes = charterCodec.encode(this.charter)
    this.id = linkOf(this.charterBytes)
    this.roster = genesisRoster(this.charter)
    this.head = this.base = this.id
  }

  get nextHead() {
    return { federation: this.id, index: this.entries.length + 1, prev: this.head, term: 1, proposer: peerOf('a').peer }
  }

  /** Admits these organizations, which enroll, one entry after the other, until voters and delegates are settled. */
  admit(...names: string[]): this {
    const wishes: Wishes = {
      joining: names.map(name => peerOf(name).member(this.id)),
      enrolling: names.map(name => enrollRecord(peerOf(name).sign, this.id, peerOf(name).peer, name === 'a' ? 0 : 1)),
      leaving: [],
      accused: [],
      isPresent: () => true,
      isAway: () => false
    }
    for (let change = planMembers(this.roster, this.charter, wishes); change !== null; ) {
      this.add({ ...this.nextHead, kind: 'members', ...change })
      change = planMembers(this.roster, this.charter, wishes)
    }
    return this
  }

  membersEntry(change: Partial<MembersChange>): MembersEntry {
    const { voters, delegates } = this.roster
    const nothing = { joined: [], left: [], evicted: [], enrolled: [], absent: [] }
    return { ...this.nextHead, kind: 'members', ...nothing, voters: [...voters], delegates: [...delegates], ...change }
  }

  update(name: string, facts: Partial<Update> = {}): Update {
    const { peer } = peerOf(name)
    return {
      federation: this.id,
      round: this.round + 1,
      base: this.base,
      member: peer,
      by: peer,
      term: 0,
      blob: linkOf(new TextEncoder().encode(`blob of ${name}`)),
      blobBytes: 4,
      holders: [peer],
      weight: 32,
      organizations: 1,
      textBytes: 1024,
      sketches: new Uint8Array(),
      loss: 2.5,
      trainSeconds: 1.25,
      ...facts
    }
  }

  /** Signs and keeps it. @returns its link. */
  signUpdate(update: Update, by = [...known.values()].find(({ peer }) => peer === update.by)!): string {
    const record = updateCodec.encode(update)
    this.updates.set(linkOf(record), signedCodec.encode({ record, by: update.by, signature: by.signIn('update', record) }))
    return linkOf(record)
  }

  roundEntry(names: string[], facts: Partial<RoundEntry> = {}): RoundEntry {
    const inputs = names.map(name => {
      const update = this.update(name)
      return { member: update.member, round: update.round, update: this.signUpdate(update), weight: 32, attention: [0.5] }
    })
    return {
      ...this.nextHead,
      kind: 'round',
      round: this.round + 1,
      base: this.base,
      inputs: inputs.sort((left, right) => (left.member < right.member ? -1 : 1)),
      excluded: [],
      model: linkOf(new TextEncoder().encode(`model ${this.round + 1}`)),
      modelBytes: 4,
      outer: null,
      weight: 32 * names.length,
      organizations: names.length,
      textBytes: 1024,
      ancestors: [],
      alone: null,
      residuals: [],
      charterVersion: 1,
      measured: { bytesIn: 0, bytesOut: 0, trainSeconds: 1.25, transferSeconds: 0, aggregateSeconds: 0.5 },
      ...facts
    }
  }

  /** @param voters - who signs; all that vote now, if left out. @param edit - of the certificate, before it is encoded. */
  certify(entry: Entry, voters = this.voterNames(), edit: (made: Certificate) => Certificate = made => made): CertifiedBytes {
    const bytes = entryCodec.encode(entry)
    const signing = acceptBytes(entry.federation, entry.index, entry.term, linkOf(bytes))
    const signatures = voters.map(name => ({ voter: peerOf(name).peer, signature: peerOf(name).sign(signing) }))
    const certificate = { federation: entry.federation, index: entry.index, term: entry.term, entry: linkOf(bytes), signatures }
    return { entry: bytes, certificate: certificateCodec.encode(edit(certificate)) }
  }

  voterNames(): string[] {
    return this.roster.voters.map(peer => [...known.values()].find(one => one.peer === peer)!.name)
  }

  add(entry: Entry): this {
    const bytes = this.certify(entry)
    this.entries.push(bytes)
    this.head = linkOf(bytes.entry)
    if (entry.kind === 'members') this.roster = applyMembers(this.roster, entry)
    else {
      this.base = this.head
      this.round = entry.round
    }
    return this
  }

  /** A round that counts these. */
  addRound(...names: string[]): this {
    return this.add(this.roundEntry(names))
  }
}
