/** What commands are made of: their flags' values, --json, examples. */
import { type Command, InvalidArgumentError } from 'commander'
import { WorldlmError } from '../errors.ts'
import { type Output, output } from './output.ts'

export const whole = (least: number) => (text: string) => {
  const value = text.trim() === '' ? Number.NaN : Number(text)
  if (!Number.isSafeInteger(value) || value < least) throw new InvalidArgumentError(`It must be a whole number ≥ ${least}.`)
  return value
}

export const between = (least: number, most: number) => (text: string) => {
  const value = Number(text)
  if (text.trim() === '' || !(value >= least && value <= most))
    throw new InvalidArgumentError(`It must be a number from ${least} to ${most}.`)
  return value
}

export const sizeList = (text: string) => {
  const sizes = text.split(',')
  if (sizes.some(size => !['S', 'M', 'L'].includes(size))) throw new InvalidArgumentError('It must be a list of S, M, L.')
  return sizes
}

/** A command with --json, whose errors throw instead of exiting. */
export function add(parent: Command, usage: string, description: string, examples: string[]): Command {
  return parent
    .command(usage)
    .description(description)
    .option('--json', 'one JSON document on stdout, progress on stderr')
    .exitOverride()
    .showSuggestionAfterError()
    .hook('preAction', (_, command) => refuseEmpty(command))
    .addHelpText('after', `\nExamples:\n${examples.map(example => `  $ ${example}`).join('\n')}`)
}

/** As `--dir "$DIR"` gives it where DIR is not set: it would be the folder that one happens to be in. */
function refuseEmpty(command: Command): void {
  const isEmpty = (value: unknown) => value === '' || (Array.isArray(value) && value.includes(''))
  const empty = command.options.find(
    option => !mayBeEmpty.has(option.long!) && isEmpty(command.getOptionValue(option.attributeName()))
  )
  const what = empty?.long ?? (command.args.includes('') ? 'an argument' : undefined)
  if (what !== undefined) throw new WorldlmError('USAGE', `${what} is empty`, 'Give it a value, or leave it out.')
}

const mayBeEmpty = new Set(['--prompt'])

export const outputOf = (options: { json?: boolean }): Output => output(options.json === true)
