import { readTextFile } from '../../src/data/formats.ts'
import { type Bytes, memoryBytesDefault, Spool } from '../../src/data/spool.ts'

/** All of it at once. */
export const whole = (bytes: Bytes): Uint8Array => bytes.subarray(0, bytes.length)

export async function readWhole(organization: string, path: string): Promise<Uint8Array> {
  const spool = new Spool(memoryBytesDefault)
  await readTextFile(organization, path, bytes => spool.add(bytes))
  return whole(spool.whole())
}
