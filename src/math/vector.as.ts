// Kernels over 32-bit floats in one linear memory (AssemblyScript, 128-bit SIMD). Lengths are multiples of 4; pointers are aligned to 16.
// Sums are taken in 64 bits. The plain oracles stand in vector.ts; `npm run wasm` builds the bytes.

/** y ← a·y + b·x, in place. */
export function scaleAndAdd(y: usize, a: f32, x: usize, b: f32, floats: i32): void {
  const end = y + (<usize>floats << 2)
  const A = f32x4.splat(a)
  const B = f32x4.splat(b)
  while (y < end) {
    v128.store(y, f32x4.add(f32x4.mul(A, v128.load(y)), f32x4.mul(B, v128.load(x))))
    y += 16
    x += 16
  }
}

/** y ← y + b·x, in place: one multiplication less where most time goes. */
export function add(y: usize, x: usize, b: f32, floats: i32): void {
  const end = y + (<usize>floats << 2)
  const end4 = y + ((<usize>floats << 2) & ~63)
  const B = f32x4.splat(b)
  while (y < end4) {
    v128.store(y, f32x4.add(v128.load(y), f32x4.mul(B, v128.load(x))))
    v128.store(y, f32x4.add(v128.load(y, 16), f32x4.mul(B, v128.load(x, 16))), 16)
    v128.store(y, f32x4.add(v128.load(y, 32), f32x4.mul(B, v128.load(x, 32))), 32)
    v128.store(y, f32x4.add(v128.load(y, 48), f32x4.mul(B, v128.load(x, 48))), 48)
    y += 64
    x += 64
  }
  while (y < end) {
    v128.store(y, f32x4.add(v128.load(y), f32x4.mul(B, v128.load(x))))
    y += 16
    x += 16
  }
}

/** Σ (x − p)·(y − q), where p and q may be 0: no reference. */
export function dotDifference(x: usize, p: usize, y: usize, q: usize, floats: i32): f64 {
  const end = x + (<usize>floats << 2)
  let low = f64x2.splat(0)
  let high = f64x2.splat(0)
  while (x < end) {
    let left = v128.load(x)
    let right = v128.load(y)
    if (p) {
      left = f32x4.sub(left, v128.load(p))
      p += 16
    }
    if (q) {
      right = f32x4.sub(right, v128.load(q))
      q += 16
    }
    low = f64x2.add(low, f64x2.mul(f64x2.promote_low_f32x4(left), f64x2.promote_low_f32x4(right)))
    left = i8x16.shuffle(left, left, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
    right = i8x16.shuffle(right, right, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
    high = f64x2.add(high, f64x2.mul(f64x2.promote_low_f32x4(left), f64x2.promote_low_f32x4(right)))
    x += 16
    y += 16
  }
  low = f64x2.add(low, high)
  return f64x2.extract_lane(low, 0) + f64x2.extract_lane(low, 1)
}

/** 1 if every float lies within ±bound, else 0; what is no number lies nowhere. */
export function allWithin(x: usize, bound: f32, floats: i32): i32 {
  const end = x + (<usize>floats << 2)
  let good = i32x4.splat(-1)
  const most = f32x4.splat(bound)
  while (x < end) {
    good = v128.and(good, f32x4.le(f32x4.abs(v128.load(x)), most))
    x += 16
  }
  return i32x4.all_true(good) ? 1 : 0
}

/**
 * Count sketch (Charikar et al. 2002): out[bucket(i)] += sign(i)·(x_i − y_i), over 512 buckets of f64; y = 0: no reference.
 * Bucket and sign come from a hash of (seed, i) (the finalizer of MurmurHash3).
 */
export function sketch(out: usize, x: usize, y: usize, floats: i32, seed: u32): void {
  for (let i = 0; i < floats; i++) {
    let h: u32 = (<u32>i) * 0x9e3779b1 + seed
    h ^= h >>> 16
    h *= 0x85ebca6b
    h ^= h >>> 13
    h *= 0xc2b2ae35
    h ^= h >>> 16
    let value: f32 = load<f32>(x + (<usize>i << 2))
    if (y) value -= load<f32>(y + (<usize>i << 2))
    const bucket = out + (<usize>(h & 511) << 3)
    store<f64>(bucket, load<f64>(bucket) + <f64>(h & 512 ? -value : value))
  }
}
