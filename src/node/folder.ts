/**
 * The folder of a node: everything that it is and knows. One process at a time works in it.
 *
 *   worldlm.yaml  identity.key (0600)  token (0600)  charters/<id>.cbor     written by `worldlm node init` and `worldlm federation`
 *   run.json                                                                while it runs: process, addresses
 *   node.log  certified.car  records.jsonl  consensus/  blobs/  models/     what it did and holds
 *   participation.json  residuals.json  fingerprints/                       its organization's part
 */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { WorldlmError } from '../errors.ts'
import { shellWord } from '../shell-word.ts'
import { linkOf } from '../wire/codec.ts'
import type { FederationId } from '../ids.ts'
import { writeFileDurably } from './files.ts'

export interface RunFile {
  pid: number
  /** When that process began, as the system tells it: numbers of processes are given anew. null where it cannot be told. */
  began?: string | null
  api: string
  addresses: string[]
  peer: string
}

export class NodeFolder {
  readonly root: string

  constructor(root: string) {
    this.root = resolve(root)
  }

  readonly #at = (...names: string[]): string => join(this.root, ...names)
  get config(): string {
    return this.#at('worldlm.yaml')
  }
  get log(): string {
    return this.#at('node.log')
  }
  get records(): string {
    return this.#at('records.jsonl')
  }
  get certifiedCar(): string {
    return this.#at('certified.car')
  }
  get blobs(): string {
    return this.#at('blobs')
  }
  get participation(): string {
    return this.#at('participation.json')
  }
  get residuals(): string {
    return this.#at('residuals.json')
  }
  fingerprint(federation: FederationId): string {
    return this.#at('fingerprints', `${federation}.cbor`)
  }
  get models(): string {
    return this.#at('models')
  }
  model(name: string): string {
    return this.#at('models', `${name}.safetensors`)
  }
  consensus(federation: FederationId): string {
    return this.#at('consensus', `${federation}.cbor`)
  }

  identity(): Uint8Array {
    return this.#read('identity.key')
  }

  /** @throws {WorldlmError} TOKEN_MISSING */
  token(): string {
    const path = this.#at('token')
    const token = existsSync(path) ? readFileSync(path, 'utf8').trim() : ''
    if (token === '')
      throw new WorldlmError(
        'TOKEN_MISSING',
        `${path} holds no token for the API`,
        'Write a secret of your choice there, one line, and let nobody else read it (chmod 600).'
      )
    return token
  }

  /** Writes the folder of a new node. @throws {WorldlmError} FOLDER_EXISTS */
  init(identity: Uint8Array, yaml: string): void {
    if (existsSync(this.config) || existsSync(this.#at('identity.key'))) {
      throw new WorldlmError(
        'FOLDER_EXISTS',
        `${this.root} holds a node already`,
        'Choose another folder: an identity is never overwritten.'
      )
    }
    mkdirSync(this.root, { recursive: true })
    // What is founded or joined next names this key, and is on disk: a power cut must not leave it without.
    writeFileDurably(this.#at('identity.key'), identity, 0o600)
    writeFileDurably(this.#at('token'), `${randomBytes(24).toString('base64url')}\n`, 0o600)
    writeFileDurably(this.config, yaml)
    this.prepare()
  }

  /** Makes the folders that a running node needs. @throws {WorldlmError} FOLDER_MISSING */
  prepare(): void {
    if (!existsSync(this.config))
      throw new WorldlmError(
        'FOLDER_MISSING',
        `${this.root} holds no node (worldlm.yaml is missing)`,
        `Make one: worldlm node init --dir ${shellWord(this.root)} --name NAME --data FOLDER`
      )
    for (const name of ['charters', 'consensus', 'blobs', 'models', 'fingerprints'])
      mkdirSync(this.#at(name), { recursive: true })
  }

  addCharter(bytes: Uint8Array): FederationId {
    const id = linkOf(bytes)
    mkdirSync(this.#at('charters'), { recursive: true })
    writeFileDurably(this.#at('charters', `${id}.cbor`), bytes)
    return id
  }

  charters(): Map<FederationId, Uint8Array> {
    const folder = this.#at('charters')
    const names = existsSync(folder) ? readdirSync(folder).filter(name => name.endsWith('.cbor')) : []
    const charters = new Map<FederationId, Uint8Array>()
    for (const name of names) {
      const bytes = new Uint8Array(readFileSync(join(folder, name)))
      const id = name.slice(0, -'.cbor'.length)
      if (linkOf(bytes) !== id)
        throw new WorldlmError(
          'CHARTER_DAMAGED',
          `${join(folder, name)} is not the charter that its name says`,
          'Remove it: the node fetches the charter from other members.'
        )
      charters.set(id, bytes)
    }
    return charters
  }

  /** Takes the folder for this process. @throws {WorldlmError} FOLDER_IN_USE, naming the process that has it. */
  lock(): void {
    const path = this.#at('run.json')
    const mine = this.#runText({ pid: process.pid, api: '', addresses: [], peer: '' })
    for (let tries = 0; tries < 3; tries++) {
      try {
        writeFileSync(path, mine, { flag: 'wx' })
        return
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
      const left = readIfThere(path)
      const running = this.running()
      if (running !== null && running.pid !== process.pid) throw this.#inUse(running.pid)
      // Left over by a process that was killed. Another may be taking the folder at this moment: only what was read is removed.
      const aside = `${path}.${process.pid}`
      try {
        renameSync(path, aside)
      } catch {
        continue
      }
      const moved = readIfThere(aside)
      if (moved !== left) renameSync(aside, path)
      else rmSync(aside, { force: true })
    }
    throw this.#inUse(this.running()?.pid ?? 0)
  }

  #inUse(pid: number): WorldlmError {
    return new WorldlmError(
      'FOLDER_IN_USE',
      `process ${pid} runs the node in ${this.root}`,
      'Stop it first: worldlm node stop --dir …'
    )
  }

  #runText(run: RunFile): string {
    return `${JSON.stringify({ ...run, began: beganAt(run.pid) }, null, 2)}\n`
  }

  writeRun(run: RunFile): void {
    writeFileDurably(this.#at('run.json'), this.#runText(run))
  }

  unlock(): void {
    rmSync(this.#at('run.json'), { force: true })
  }

  /** What the running node says of itself; null when none runs. The file of a killed one is left over, and not believed. */
  running(): RunFile | null {
    try {
      const run = JSON.parse(readFileSync(this.#at('run.json'), 'utf8')) as RunFile
      if (!isAlive(run.pid)) return null
      const began = beganAt(run.pid)
      return (run.began ?? null) === null || began === null || began === run.began ? run : null
    } catch {
      return null
    }
  }

  #read(name: string): Uint8Array {
    try {
      return new Uint8Array(readFileSync(this.#at(name)))
    } catch (cause) {
      throw new WorldlmError(
        'FOLDER_MISSING',
        `${this.#at(name)} cannot be read: ${(cause as Error).message}`,
        `Make a node: worldlm node init --dir ${shellWord(this.root)} --name NAME --data FOLDER`,
        { cause }
      )
    }
  }
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // It is there, and belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Boot and tick at which a process began (proc(5), /proc/pid/stat, field 22); null where the system does not tell. */
function beganAt(pid: number): string | null {
  const stat = readIfThere(`/proc/${pid}/stat`)
  const boot = readIfThere('/proc/sys/kernel/random/boot_id')
  if (stat === null || boot === null) return null
  // The name, in parentheses, may hold anything; field 3 follows it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[19] === undefined ? null : `${boot.trim()}/${fields[19]}`
}
