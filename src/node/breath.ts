/** Long work in pieces: between them the event loop goes on, so signals, heartbeats and the API are answered meanwhile. */

/** What a heartbeat can wait for. */
const pieceMs = 20

export class Breath {
  #sinceMs = performance.now()

  /** Returns at once while the piece is short. */
  async take(): Promise<void> {
    if (performance.now() - this.#sinceMs < pieceMs) return
    await new Promise(resolve => setImmediate(resolve))
    this.#sinceMs = performance.now()
  }
}
