/**
 * A live display: lines scroll above, a table that is drawn over and over stands below. Where there is no terminal, lines alone.
 */
import type { Output } from './output.ts'

const drawMs = 250

export class LiveTable {
  readonly #stream: NodeJS.WriteStream
  readonly #live: boolean
  #drawn = 0
  #drawnAt = 0

  constructor(output: Output) {
    this.#stream = output.json ? process.stderr : process.stdout
    this.#live = this.#stream.isTTY === true
  }

  get live(): boolean {
    return this.#live
  }

  line(text: string): void {
    this.clear()
    this.#stream.write(`${text}\n`)
  }

  /** @param render - called only when it is time to draw. */
  draw(render: () => string): void {
    if (!this.#live || performance.now() - this.#drawnAt < drawMs) return
    const columns = this.#stream.columns ?? 100
    const lines = render()
      .split('\n')
      .slice(0, Math.max(4, (this.#stream.rows ?? 40) - 2))
      .map(line => line.slice(0, columns - 1))
    this.clear()
    this.#stream.write(`${lines.join('\n')}\n`)
    this.#drawn = lines.length
    this.#drawnAt = performance.now()
  }

  clear(): void {
    if (this.#drawn > 0) this.#stream.write(`\x1b[${this.#drawn}A\x1b[0J`)
    this.#drawn = 0
  }
}

/** `████░░░░  42 %  12 s left` */
export function progressBar(done: number, of: number, secondsSoFar: number): string {
  const share = of > 0 ? Math.min(1, done / of) : 0
  const filled = Math.round(share * 24)
  const left = share > 0.01 ? `${Math.max(0, Math.round(secondsSoFar / share - secondsSoFar))} s left` : 'estimating'
  return `${'█'.repeat(filled)}${'░'.repeat(24 - filled)}  ${Math.round(share * 100)} %  ${left}`
}
