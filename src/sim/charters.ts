/** The charters of a simulated tree: governance's own defaults, with times that suit a virtual network. */
import { completeCharter, defaultElectionTimeoutMs } from '../governance/charter-schema.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId, PeerName } from '../ids.ts'
import { linkOfCharter } from './stand-ins.ts'
import type { Topology, TreeTopology } from './topology.ts'

export interface Genesis {
  id: FederationId
  charter: Charter
}

export interface CharterOptions {
  rounds: number
  seed: number
  keyFraction: number
  /** Residuals brought to an organization a round. */
  residuals: number
  nameOf: (organization: number) => PeerName
}

const deadlineMs = 30_000

/** What the charters of a topology will say, before they are made. */
export function electionTimeoutOf(topology: Topology): number {
  const timings = topology.file?.charter.timings as { electionTimeoutMs?: unknown } | undefined
  return typeof timings?.electionTimeoutMs === 'number' ? timings.electionTimeoutMs : defaultElectionTimeoutMs
}

/** One a federation, in the topology's order. @throws {WorldlmError} CHARTER_INVALID, CHARTER_CONTRADICTION */
export function simulatedCharters({ federations, file }: TreeTopology, options: CharterOptions): Genesis[] {
  const given = (file?.charter ?? {}) as { timings?: object; algorithm?: object }
  const made: Genesis[] = []
  for (const { path, parent, level, founder, members } of federations) {
    const above = parent === null ? null : made[parent]!
    const input = {
      name: path.slice(path.lastIndexOf('/') + 1),
      startMembers: members,
      minMembers: Math.min(2, members),
      seed: options.seed,
      ...given,
      algorithm: {
        keyFraction: options.keyFraction,
        embeddingIsKey: options.keyFraction === 1,
        // Only where they are asked for: a bridge compares everybody below it with everybody.
        residuals: { perNode: options.residuals },
        ...given.algorithm,
        rounds: options.rounds
      },
      timings: {
        deadlineMs,
        // Its parent's own deadline, and those of all above it, pass first.
        parentTimeoutMs: (deadlineMs + 5_000) * Math.max(1, level),
        startTimeoutMs: 20_000 * (level + 1),
        ...given.timings
      }
    }
    const charter = completeCharter(input, { founders: [options.nameOf(founder)], parent: above })
    made.push({ id: linkOfCharter(charter), charter })
  }
  return made
}
