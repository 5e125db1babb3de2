/**
 * Certified entries and signed updates where they lie in certified.car: what is in memory is their places.
 *
 * Why: a node stays on for months, and its log outgrows it: most of what a round adds are its updates, some kB each. The newest
 * entries are read now and then, older ones by newcomers alone; the system's page cache serves both.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import type { Entry } from '../federation/entry.ts'
import type { Link } from '../ids.ts'
import type { CertifiedBytes } from '../wire/messages.ts'

/** Bytes of a file. */
export interface Place {
  offset: number
  length: number
}

/** Blocks of a file that grows, read when they are asked for. */
export class BlockFile {
  readonly #fd: number

  constructor(path: string) {
    this.#fd = openSync(path, 'r')
  }

  read({ offset, length }: Place): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let read = 0; read < length; ) {
      const count = readSync(this.#fd, bytes, read, length - read, offset + read)
      if (count === 0) throw new Error(`the file ends at byte ${offset + read}, before the end of a block that it had`)
      read += count
    }
    return bytes
  }

  close(): void {
    closeSync(this.#fd)
  }
}

/** The certified entries of one federation, in order of index, from 1. */
export class EntryLog {
  readonly #file: BlockFile
  readonly #places: ({ entry: Place; certificate: Place } | undefined)[] = []
  readonly #changes: number[] = []
  /** Round r stands at r − 1. */
  readonly #rounds: number[] = []
  readonly #blobs = new Set<Link>()

  constructor(file: BlockFile) {
    this.#file = file
  }

  /** Of the highest index; where entries are missing before it, more than there are. */
  get length(): number {
    return this.#places.length
  }

  /** Models and outer states of all its rounds. */
  get blobs(): ReadonlySet<Link> {
    return this.#blobs
  }

  /** Notes what stands in the file at these places. */
  put(entry: Entry, places: { entry: Place; certificate: Place }): void {
    const place = entry.index - 1
    if (this.#places[place] === undefined) (entry.kind === 'members' ? this.#changes : this.#rounds).push(place)
    this.#places[place] = places
    if (entry.kind === 'members') return
    this.#blobs.add(entry.model)
    if (entry.outer !== null) this.#blobs.add(entry.outer)
  }

  /** @param place - index − 1. @returns undefined if there is no such entry. */
  at(place: number): CertifiedBytes | undefined {
    const places = this.#places[place]
    return places === undefined
      ? undefined
      : { entry: this.#file.read(places.entry), certificate: this.#file.read(places.certificate) }
  }

  /** Entries in order, one after the other, without those that are missing. @param place - of the first. */
  *from(place: number): Generator<CertifiedBytes> {
    for (let next = place; next < this.length; next++) {
      const one = this.at(next)
      if (one !== undefined) yield one
    }
  }

  /** The newest `last` rounds before round `before`, in order. */
  rounds(last: number, before = Number.POSITIVE_INFINITY): CertifiedBytes[] {
    const end = Math.min(before - 1, this.#rounds.length)
    return this.#rounds.slice(Math.max(0, end - last), end).map(place => this.at(place)!)
  }

  /** Those that change members, of this index and above, in order. */
  changes(fromIndex = 0): CertifiedBytes[] {
    return this.#changes.filter(place => place + 1 >= fromIndex).map(place => this.at(place)!)
  }
}

/** Signed update records by the link of the record, as a map that is read only. */
export class StoredUpdates {
  readonly #file: BlockFile
  readonly #places = new Map<Link, Place>()

  constructor(file: BlockFile) {
    this.#file = file
  }

  put(link: Link, place: Place): void {
    this.#places.set(link, place)
  }

  has(link: Link): boolean {
    return this.#places.has(link)
  }

  get(link: Link): Uint8Array | undefined {
    const place = this.#places.get(link)
    return place === undefined ? undefined : this.#file.read(place)
  }

  /** In the order of the file. */
  links(): Link[] {
    return [...this.#places.keys()]
  }
}
