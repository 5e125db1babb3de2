/** The built-in scenarios, by name. */
import { readFileSync, statSync } from 'node:fs'
import { WorldlmError } from '../../src/errors.ts'
import { nearest } from '../../src/nearest.ts'
import { chaos } from './chaos.ts'
import { churn } from './churn.ts'
import { fullDisk } from './full-disk.ts'
import { lateJoiner } from './late-joiner.ts'
import { lostAggregator } from './lost-aggregator.ts'
import { lostDelegate } from './lost-delegate.ts'
import { lostMember } from './lost-member.ts'
import { rollingRestart } from './rolling-restart.ts'
import type { PlannedNode } from '../plan.ts'
import { placeStory } from './placing.ts'
import { parseScenario, type Scenario } from './schema.ts'
import { slowLink } from './slow-link.ts'
import { splitAndHeal } from './split-and-heal.ts'

/** As YAML, so that each can be copied and changed. */
export const stories: Record<string, string> = {
  'lost-aggregator': lostAggregator,
  'lost-member': lostMember,
  'lost-delegate': lostDelegate,
  'split-and-heal': splitAndHeal,
  'late-joiner': lateJoiner,
  'slow-link': slowLink,
  churn,
  chaos,
  'full-disk': fullDisk,
  'rolling-restart': rollingRestart
}

/**
 * @param name - of a built-in scenario, or a YAML file. @param nodes - of the testnet, where they are not the built-in text's.
 * @throws {WorldlmError} USAGE, SCENARIO_INVALID, SCENARIO_IMPOSSIBLE
 */
export function findScenario(
  name: string,
  nodes?: readonly Pick<PlannedNode, 'path' | 'federation'>[]
): { scenario: Scenario; yaml: string } {
  const builtIn = Object.hasOwn(stories, name) ? stories[name]! : null
  if (builtIn === null && statSync(name, { throwIfNoEntry: false })?.isDirectory() !== false) {
    const near = nearest(name, Object.keys(stories))
    throw new WorldlmError(
      'USAGE',
      `there is no scenario ${name}, and no such file`,
      `${near === null ? '' : `Did you mean ${near}? `}Built in: ${Object.keys(stories).join(', ')}.`
    )
  }
  const placed = builtIn === null || nodes === undefined ? builtIn : placeStory(builtIn, nodes)
  const yaml = placed ?? readFileSync(name, 'utf8')
  return { scenario: parseScenario(yaml, name), yaml }
}
