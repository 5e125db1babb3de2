// AdamW and its norm over one linear memory (AssemblyScript, 128-bit SIMD). Lengths are multiples of 4, pointers aligned to 16.
// The oracle is the reference engine; `npm run wasm` builds the bytes.

/**
 * One pass of AdamW: reads w, g, m, v; writes w, m, v.
 * g' = scale·g;  m += (1−β1)(g'−m);  v += (1−β2)(g'²−v);  w ← decay·w − rate·m / (√v·root + ε)
 * rate = lr/(1−β1ᵗ), root = 1/√(1−β2ᵗ).
 */
export function adamw(w: usize, g: usize, m: usize, v: usize, floats: i32, scale: f32, rate: f32, decay: f32, root: f32): void {
  const SCALE = f32x4.splat(scale)
  const RATE = f32x4.splat(rate)
  const DECAY = f32x4.splat(decay)
  const ROOT = f32x4.splat(root)
  const EPSILON = f32x4.splat(1e-8)
  const C1 = f32x4.splat(0.1)
  const C2 = f32x4.splat(0.05)
  const end = w + (<usize>floats << 2)
  while (w < end) {
    const gradient = f32x4.mul(SCALE, v128.load(g))
    let first = v128.load(m)
    let second = v128.load(v)
    first = f32x4.add(first, f32x4.mul(C1, f32x4.sub(gradient, first)))
    second = f32x4.add(second, f32x4.mul(C2, f32x4.sub(f32x4.mul(gradient, gradient), second)))
    v128.store(m, first)
    v128.store(v, second)
    const step = f32x4.div(first, f32x4.add(f32x4.mul(f32x4.sqrt(second), ROOT), EPSILON))
    v128.store(w, f32x4.sub(f32x4.mul(v128.load(w), DECAY), f32x4.mul(RATE, step)))
    w += 16
    g += 16
    m += 16
    v += 16
  }
}

/** Σ x², in 64 bits. */
export function sumOfSquares(x: usize, floats: i32): f64 {
  const end = x + (<usize>floats << 2)
  let low = f64x2.splat(0)
  let high = f64x2.splat(0)
  while (x < end) {
    const value = v128.load(x)
    const left = f64x2.promote_low_f32x4(value)
    const right = f64x2.promote_low_f32x4(i8x16.shuffle(value, value, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7))
    low = f64x2.add(low, f64x2.mul(left, left))
    high = f64x2.add(high, f64x2.mul(right, right))
    x += 16
  }
  low = f64x2.add(low, high)
  return f64x2.extract_lane(low, 0) + f64x2.extract_lane(low, 1)
}
