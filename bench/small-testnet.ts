/**
 * A testnet as small as it can be, for benches of what is around training: a model of some thousand parameters, made-up text, real
 * processes. In a folder of its own that is removed afterwards, unless something went wrong.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readTree } from '../src/data/text-tree.ts'
import { WorldlmError } from '../src/errors.ts'
import { Random } from '../src/math/random.ts'
import type { Genesis } from '../src/node/genesis.ts'
import { checkInvariants } from '../testnet/checks/invariants.ts'
import { loadRecords } from '../testnet/checks/records.ts'
import { Fleet, type FleetEvents } from '../testnet/fleet.ts'
import { planTestnet } from '../testnet/plan.ts'
import { prepareNodes } from '../testnet/prepare.ts'
import { endWithBench, keepBenchFolder, openBenchFolder, removeBenchFolder } from './bench-folder.ts'

export interface SmallTestnetOptions {
  /** Paths of organizations. */
  organizations: string[]
  seed: number
  steps: number
  /** 0: no end. */
  rounds: number
  timings: Record<string, number>
  /** Whose nodes are not started yet: `fleet.start`. */
  late?: ReadonlySet<string>
}

export interface SmallTestnet {
  fleet: Fleet
  federations: Map<string, Genesis>
  folder: string
  /** Stops all, and checks the invariants on what is left. @throws {WorldlmError} BENCH_WRONG */
  end(): Promise<void>
  /** After a failure: stops all, and leaves the folder. */
  abandon(): Promise<void>
}

const model = { layers: 1, width: 16, hidden: 32, heads: 2, context: 32, vocabulary: 256 }
const textBytes = 40_000

export async function openSmallTestnet(options: SmallTestnetOptions, events: FleetEvents): Promise<SmallTestnet> {
  const { organizations, seed, steps, rounds, timings, late } = options
  const folder = openBenchFolder()
  for (const path of organizations) {
    mkdirSync(join(folder, 'text', path), { recursive: true })
    writeFileSync(join(folder, 'text', path, 'train.txt'), someText(new Random(`${seed}/${path}`)))
  }
  const plan = planTestnet(readTree(join(folder, 'text')))
  const charter = { model, timings, algorithm: { rounds, steps, batch: 4 } }
  const given = { plan, out: folder, seed, charter, threads: 1, network: null, late: new Set<string>(), start: null }
  const { nodes, federations } = await prepareNodes(given)
  const fleet = new Fleet(nodes, events, new AbortController().signal)
  endWithBench(() => fleet.running.flatMap(({ process: child }) => child ?? []))
  await fleet.begin(late)
  return {
    fleet,
    federations,
    folder,
    end: async () => {
      await fleet.stop()
      const records = await loadRecords(nodes.map(node => ({ name: node.plan.path, voter: node.peer, root: node.folder.root })))
      const violations = checkInvariants(records, new Map([...federations.values()].map(one => [one.id, one.charter.founders])))
      if (violations.length > 0) {
        const first = violations[0]!
        throw new WorldlmError(
          'BENCH_WRONG',
          `${first.invariant}: ${first.detail} (${violations.length} in all)`,
          `See ${folder}.`
        )
      }
      removeBenchFolder(folder)
    },
    abandon: async () => {
      await fleet.stop()
      keepBenchFolder(folder)
      process.stderr.write(`what the nodes left is in ${folder}\n`)
    }
  }
}

/** Words of one's own: every organization has a few hundred. */
function someText(random: Random): string {
  const letters = 'etaoinshrdlucmfwypvbgkjqxz'
  const words = Array.from({ length: 300 }, () =>
    Array.from({ length: 2 + random.below(7) }, () => letters[Math.floor(random.float() ** 2 * letters.length)]).join('')
  )
  let text = ''
  while (text.length < textBytes)
    text += `${words[Math.floor(random.float() ** 2 * words.length)]}${random.below(9) === 0 ? '.\n' : ' '}`
  return text
}
