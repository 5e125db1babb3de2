/** A host's certificate under a clock that is set while it runs. */
import assert from 'node:assert/strict'
import { HostCertificate } from '../../src/net/host-certificate.ts'

const hourMs = 3_600_000

describe('the certificate of a host', () => {
  let [made, wallMs, evenMs] = [0, 0, 0]
  const certificate = () =>
    new HostCertificate(
      async () => ({ cert: String(++made), key: '' }),
      () => wallMs,
      () => evenMs
    )
  const pass = (ms: number) => {
    wallMs += ms
    evenMs += ms
  }
  beforeEach(() => {
    ;[made, wallMs, evenMs] = [0, 1_790_000_000_000, 5]
  })

  it('is one, as time passes and as the clock is set forward or by a little', async () => {
    const one = certificate()
    for (const setMs of [0, 100 * hourMs, -hourMs / 4, hourMs]) {
      pass(1_000 * hourMs)
      wallMs += setMs
      assert.equal((await one.get()).cert, '1')
    }
  })

  it('is a new one when the clock was set back: peers would not hold the old one for valid yet', async () => {
    const one = certificate()
    await one.get()
    pass(60_000)
    wallMs -= 2 * hourMs
    assert.equal((await one.get()).cert, '2')
    pass(hourMs)
    assert.equal((await one.get()).cert, '2')
  })
})
