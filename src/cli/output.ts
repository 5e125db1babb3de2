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

/** The document of --json for a command that failed. */
export const failed = (code: string, message: string, hint: string) => ({ error: { code, message, hint } })

/** Names come from others, and control characters in them would move the cursor of who reads them. */
const printable = (text: string): string => text.replaceAll(/(?![\n\t])\p{Cc}/gu, '\ufffd')

/** One document a command: a node that says where it listens and fails later says so on stderr alone. */
let hasDocument = false
function writeDocument(value: unknown): void {
  if (hasDocument) return
  hasDocument = true
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}

export function output(json: boolean): Output {
  const people = json ? process.stderr : process.stdout
  return {
    json,
    line: text => void people.write(`${printable(text)}\n`),
    document: value => {
      if (json) writeDocument(value)
    },
    failure: (code, message, hint) => {
      process.stderr.write(`error ${code}: ${printable(message)}\n`)
      if (hint !== '') process.stderr.write(`  ${hint}\n`)
      if (json) writeDocument(failed(code, message, hint))
    }
  }
}
