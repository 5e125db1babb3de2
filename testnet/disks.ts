/**
 * Disks that fill up, for real nodes.
 *
 * Where root may mount: each node's folder is a tmpfs, which is made as small as what is in it; the node meets ENOSPC. Elsewhere, on
 * Linux: `prlimit` lets no file of the process grow (RLIMIT_FSIZE); it meets EFBIG, at the same places. The report says which it was.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, openSync, closeSync, renameSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { WorldlmError } from '../src/errors.ts'
import type { TestnetNode } from './spawn.ts'

/** Of each node's tmpfs while it has room; it takes what is written, no more. */
const roomyMiB = 2048
const fillerName = 'filler'

export class Disks {
  readonly kind: 'tmpfs' | 'prlimit'
  readonly #mounted: string[] = []

  private constructor(kind: 'tmpfs' | 'prlimit') {
    this.kind = kind
  }

  /** @param folders - of the nodes, not yet made. @throws {WorldlmError} SCENARIO_IMPOSSIBLE */
  static prepare(folders: string[]): Disks {
    const disks = new Disks(canMount(folders[0]!) ? 'tmpfs' : 'prlimit')
    if (disks.kind === 'prlimit' && !succeeds('prlimit', ['--version']))
      throw new WorldlmError(
        'SCENARIO_IMPOSSIBLE',
        'a disk can be filled here neither by a small tmpfs (that takes root) nor by prlimit (which is not installed)',
        'Run it on Linux, with util-linux; or choose another scenario.'
      )
    if (disks.kind === 'tmpfs') for (const folder of folders) disks.#mount(folder)
    // However the testnet ends: nothing stays mounted.
    process.once('exit', () => disks.close())
    return disks
  }

  get description(): string {
    return this.kind === 'tmpfs' ? 'a tmpfs without room (ENOSPC)' : 'emulated: prlimit --fsize=0 (EFBIG)'
  }

  fill(node: TestnetNode): void {
    if (this.kind === 'prlimit') {
      execFileSync('prlimit', ['--pid', String(node.process?.pid), '--fsize=0:'])
      return
    }
    const { root } = node.folder
    const { blocks, bfree, bsize } = statfsSync(root)
    // As large as what is in it, and a little that a file fills.
    execFileSync('mount', ['-o', `remount,size=${(blocks - bfree) * bsize + (64 << 10)}`, root])
    const file = openSync(join(root, fillerName), 'a')
    // Down to the last byte: what fits in between is found by smaller and smaller pieces.
    for (let piece = 1 << 14; piece >= 1; ) {
      try {
        writeSync(file, Buffer.alloc(piece))
      } catch {
        piece >>= 1
      }
    }
    closeSync(file)
  }

  free(node: TestnetNode): void {
    if (this.kind === 'tmpfs') {
      rmSync(join(node.folder.root, fillerName), { force: true })
      execFileSync('mount', ['-o', `remount,size=${roomyMiB}m`, node.folder.root])
    } else if (node.process !== null && node.ended === null)
      execFileSync('prlimit', ['--pid', String(node.process.pid), '--fsize=unlimited:'])
  }

  /** What the nodes left is kept, on the disk below. */
  close(): void {
    for (const folder of this.#mounted.splice(0)) {
      rmSync(join(folder, fillerName), { force: true })
      const kept = `${folder}.kept`
      cpSync(folder, kept, { recursive: true, preserveTimestamps: true })
      execFileSync('umount', ['-l', folder])
      rmSync(folder, { recursive: true, force: true })
      renameSync(kept, folder)
    }
  }

  #mount(folder: string): void {
    mkdirSync(folder, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${roomyMiB}m,mode=0755`, 'worldlm-testnet', folder])
    this.#mounted.push(folder)
  }
}

function canMount(near: string): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false
  const probe = `${near}.probe`
  mkdirSync(probe, { recursive: true })
  const can = succeeds('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'worldlm-testnet', probe])
  if (can) succeeds('umount', [probe])
  if (existsSync(probe)) rmSync(probe, { recursive: true, force: true })
  return can
}

function succeeds(command: string, args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
