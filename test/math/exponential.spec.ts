/** Exponential numbers against the logarithm that they do without. */
import assert from 'node:assert/strict'
import { exponential } from '../../src/math/exponential.ts'
import { Random } from '../../src/math/random.ts'

describe('exponential numbers', () => {
  it('are near −ln(1 − u), and never fall', () => {
    let before = 0
    for (let place = 0; place < 20_000; place++) {
      const u = (place / 20_000) * 0.998
      const [got, want] = [exponential(u), -Math.log(1 - u)]
      assert.ok(Math.abs(got - want) < 0.03 && got >= before, `${u}: ${got}, ${want}`)
      before = got
    }
  })

  it('have mean and spread 1, and end', () => {
    const random = new Random('exponential')
    let [sum, squares] = [0, 0]
    for (let count = 0; count < 200_000; count++) {
      const drawn = exponential(random.float())
      sum += drawn
      squares += drawn * drawn
    }
    const mean = sum / 200_000
    assert.ok(Math.abs(mean - 1) < 0.01 && Math.abs(squares / 200_000 - 2) < 0.06, `${mean} ${squares / 200_000}`)
    assert.ok(exponential(1 - 2 ** -53) < 40)
    assert.equal(exponential(0), 0)
  })
})
