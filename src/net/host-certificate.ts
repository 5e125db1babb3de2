/**
 * A host's TLS certificate: one for as long as it runs, as go-libp2p does, for a new one for each connection costs milliseconds; and a new one once
 * the clock has been set back. It is valid from an hour before it was made, and peers hold it to their own clocks: a machine that began
 * with a clock some hours ahead (a hardware clock in local time) would be refused by all until its next restart, however right it is by then.
 */
export interface Certificate {
  cert: string
  key: string
}

/** Half of what peers bear. */
const setBackMsMax = 30 * 60_000

export class HostCertificate {
  readonly #make: () => Promise<Certificate>
  readonly #wallMs: () => number
  readonly #evenMs: () => number
  #made: Promise<Certificate> | null = null
  /** How far the clock of day was ahead of the even one when it was made. */
  #aheadMs = 0

  /** @param wallMs - the clock of day. @param evenMs - one that nobody sets. */
  constructor(make: () => Promise<Certificate>, wallMs = () => Date.now(), evenMs = () => performance.now()) {
    this.#make = make
    this.#wallMs = wallMs
    this.#evenMs = evenMs
  }

  get(): Promise<Certificate> {
    const aheadMs = this.#wallMs() - this.#evenMs()
    if (this.#made === null || aheadMs < this.#aheadMs - setBackMsMax) {
      this.#aheadMs = aheadMs
      this.#made = this.#make()
    }
    return this.#made
  }
}
