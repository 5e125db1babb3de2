/**
 * The built-in scenarios on anybody's text: they are written for the built-in one's two federations, `world/code` and `world/prose`. On other
 * text the two that hold the most organizations play their parts.
 */
import { parse, stringify } from 'yaml'
import { WorldlmError } from '../../src/errors.ts'
import type { PlannedNode } from '../plan.ts'

type Nodes = readonly Pick<PlannedNode, 'path' | 'federation'>[]

const [first, second] = ['world/code', 'world/prose']
const spoken = /world\/(code|prose)\b/g

/** @returns the story with names of this testnet. @throws {WorldlmError} SCENARIO_IMPOSSIBLE where it needs a federation below another. */
export function placeStory(yaml: string, nodes: Nodes): string {
  const sizes = new Map<string, number>()
  for (const { federation } of nodes) sizes.set(federation, (sizes.get(federation) ?? 0) + 1)
  const speaksOf = [first, second].filter(path => yaml.includes(path))
  if (speaksOf.every(path => sizes.has(path))) return yaml
  // Below the root come first: a story may tell of what lies above.
  const [one = 'world', other = one] = [...sizes.keys()].sort(
    (left, right) =>
      Number(left === 'world') - Number(right === 'world') || sizes.get(right)! - sizes.get(left)! || (left < right ? -1 : 1)
  )
  if (one === 'world' && yaml.includes('{ delegate:'))
    throw new WorldlmError(
      'SCENARIO_IMPOSSIBLE',
      'nobody is a delegate here: this text has one federation',
      'It takes folders of organizations inside the folder: data/FEDERATION/ORGANIZATION/*.txt.'
    )
  const parts: Record<string, string> = { [first]: one, [second]: other }
  const halves = one === other ? halvesOf(nodes) : null
  const say = (text: string) =>
    text.replace(spoken, path => parts[path]!).replace(`${one} and ${one} `, () => `The two halves of ${one} `)
  const place = (value: unknown): unknown => {
    // The root waits for nobody above.
    if (typeof value === 'string') return one === 'world' && value === 'waiting-for-parent' ? 'aggregating' : say(value)
    if (Array.isArray(value)) return value.map(place)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [key, key === 'groups' && halves !== null ? halves : place(inner)])
    )
  }
  return stringify(place(parse(yaml)))
}

/** Where there is one federation, it is cut in two itself. */
function halvesOf(nodes: Nodes): string[][] {
  const paths = nodes.map(({ path }) => path)
  const half = Math.ceil(paths.length / 2)
  return [paths.slice(0, half), paths.slice(half)]
}
