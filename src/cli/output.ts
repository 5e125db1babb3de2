/** What a command prints: for people, lines; for programs, one JSON document on stdout and everything else on stderr. */
export const exitCodes = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const

export interface Output {
  readonly json: boolean
  /** For people: on stdout, or on stderr where stdout is for a document. */
  line(text: string): void
  /** The document of --json; nothing for people. */
  document(value: unknown): void
  failure(code: string, message: string, hint: string): void
}

export function output(json: boolean): Output {
  const people = json ? process.stderr : process.stdout
  return {
    json,
    line: text => void people.write(`${text}\n`),
    document: value => {
      if (json) process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
    },
    failure: (code, message, hint) => {
      process.stderr.write(`error ${code}: ${message}\n`)
      if (hint !== '') process.stderr.write(`  ${hint}\n`)
      if (json) process.stdout.write(`${JSON.stringify({ error: { code, message, hint } }, null, 2)}\n`)
    }
  }
}
