/** Signed records, as bytes and back. */
import type { Update } from '../federation/entry.ts'
import type { Link } from '../ids.ts'
import { isMalformed, linkOf } from '../wire/codec.ts'
import { type Signed, signedCodec } from '../wire/messages.ts'
import { updateCodec } from '../wire/records.ts'
import { signedBytes } from '../wire/signature.ts'

/** @param sign - with the key of `update.by`. */
export function signUpdate(
  sign: (bytes: Uint8Array) => Uint8Array,
  update: Update
): { link: Link; bytes: Uint8Array; signed: Signed } {
  const record = updateCodec.encode(update)
  const signed = { record, by: update.by, signature: sign(signedBytes('update', record)) }
  return { link: linkOf(record), bytes: signedCodec.encode(signed), signed }
}

/** Of bytes that this node made or checked before. */
export function readSigned(bytes: Uint8Array): Signed {
  const signed = signedCodec.decode(bytes)
  if (isMalformed(signed)) throw new Error(signed.detail)
  return signed
}
