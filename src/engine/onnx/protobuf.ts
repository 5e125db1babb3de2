/** The few kinds of field that an ONNX model needs, as protobuf bytes (https://protobuf.dev/programming-guides/encoding/). */

const text = new TextEncoder()

function varint(value: number | bigint): Uint8Array {
  let rest = BigInt.asUintN(64, BigInt(value))
  const bytes: number[] = []
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128)
  return Uint8Array.from([...bytes, Number(rest)])
}

export const join = (parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts))

/** Wire type 0. */
export const integer = (field: number, value: number | bigint): Uint8Array => join([varint(field << 3), varint(value)])
/** Wire type 2. */
export const nested = (field: number, content: Uint8Array): Uint8Array =>
  join([varint((field << 3) | 2), varint(content.length), content])
export const string = (field: number, value: string): Uint8Array => nested(field, text.encode(value))
/** Wire type 5. */
export const float = (field: number, value: number): Uint8Array =>
  join([varint((field << 3) | 5), new Uint8Array(Float32Array.of(value).buffer)])
