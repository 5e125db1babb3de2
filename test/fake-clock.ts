/** `performance.now()` that stands still until a test moves it; to be made within a `describe`. */
export function fakeClock(): { nowMs: number } {
  const nowReally = performance.now
  const clock = { nowMs: 0 }
  beforeEach(() => {
    clock.nowMs = 1_000
    performance.now = () => clock.nowMs
  })
  afterEach(() => {
    performance.now = nowReally
  })
  return clock
}
