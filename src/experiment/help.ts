/** What `worldlm experiment --help` says of methods and of what can be swept. */
import { methods } from './methods.ts'

/** By name, with unit and default; docs/configuration.md says more. */
const settings: [string, string][] = [
  ['poor=50kB', 'training text of every second organization, by name (0: all of it)'],
  ['swap=0.5', 'share of the organizations that sit in wrong federations, 0 to 1 (0)'],
  ['stragglers=0.25', 'share of the organizations that need two rounds’ time for their steps, 0 to 1 (0)'],
  ['newcomer=PATH', 'an organization that joins late; with newcomerRound=15, newcomerText=50kB'],
  ['dpClip=1', 'length that each update is clipped to (0: not)'],
  ['dpNoise=0.001', 'deviation of the noise on each number, in units of dpClip (0)'],
  ['liars=1', 'organizations that send ten times the opposite of their update (0)']
]

export function experimentHelp(): string {
  const rows = (pairs: [string, string][]) => pairs.map(([name, says]) => `  ${name.padEnd(22)} ${says}`).join('\n')
  const named = Object.entries(methods).map(([name, { says }]): [string, string] => [name, says])
  return `\nMethods:\n${rows(named)}\n\nSettings to sweep, beside every option of a charter’s algorithm (keyFraction, upTemperature, …):\n${rows(settings)}\n`
}
